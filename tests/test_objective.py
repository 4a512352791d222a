import math
import weakref

import pytest
import torch
from helpers.models import MICRO_ENCODER, MICRO_UNET, micro_pipeline

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEObjective, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.losses import LOSS_TERMS


def make_objective(**arguments) -> FDAEObjective:
    pipeline = micro_pipeline()
    return FDAEObjective(pipeline.unet, pipeline.encoder, pipeline.scheduler, **arguments)


def test_loss_is_the_weighted_sum_of_its_terms(images):
    weights = {"reconstruction": 2.0, "content_decorrelation": 3.0, "mask_entropy": 5.0}
    output = make_objective(loss_weights=weights)(images * 2 - 1)
    assert output.terms.keys() == weights.keys()
    torch.testing.assert_close(output.loss, sum(weights[name] * term for name, term in output.terms.items()))


def test_terms_of_weight_zero_are_not_computed_but_the_reconstruction_is(images):
    weights = dict.fromkeys(LOSS_TERMS, 0.0)
    output = make_objective(loss_weights=weights)(images * 2 - 1)
    assert list(output.terms) == ["reconstruction"]
    assert output.loss == 0


@pytest.mark.parametrize("weights", [{"entropy": 1.0}, {"mask_entropy": "1"}, {"mask_entropy": math.nan}], ids=str)
def test_wrong_loss_weights_are_refused(weights):
    with pytest.raises(FDAEError, match="entropy"):
        make_objective(loss_weights=weights)


def test_untrained_network_has_the_closed_form_loss():
    # F = 0, so D = c_skip * x_t, and lambda * (c_skip * (x + sigma n) - x)^2 follows from the numbers alone.
    objective = FDAEObjective(FDAEUNet2DModel(**MICRO_UNET), CMFNet(**MICRO_ENCODER), EDMHeunScheduler())
    pixel_values, noise = torch.ones(2, 3, 16, 16), torch.full((2, 3, 16, 16), -1.0)
    sigma = torch.full((2, 1, 1, 1), 1.5)
    c_skip = 0.25 / (1.5**2 + 0.25)
    expected = (1 / 1.5**2 + 1 / 0.25) * (c_skip * (1 - 1.5) - 1) ** 2
    assert objective.loss(pixel_values, sigma, noise).terms["reconstruction"].item() == pytest.approx(
        expected, rel=1e-5
    )


def test_a_generator_makes_the_loss_repeatable(images):
    objective = make_objective()
    draw = [objective(images * 2 - 1, generator=torch.Generator().manual_seed(seed)).loss for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]


def test_noise_levels_are_log_normal(images, monkeypatch):
    objective = make_objective(p_mean=-0.5, p_std=0.7)
    seen = []
    monkeypatch.setattr(objective, "loss", lambda pixel_values, sigma, noise: seen.append(sigma.flatten()))
    objective(torch.zeros(20_000, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    assert seen[0].log().mean().item() == pytest.approx(-0.5, abs=0.02)
    assert seen[0].log().std().item() == pytest.approx(0.7, abs=0.02)


def test_gradients_reach_every_parameter_of_both_networks(images):
    objective = make_objective()
    objective(images * 2 - 1).loss.backward()
    without = [name for name, parameter in objective.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("num_concepts", [1, 3])
@pytest.mark.parametrize("autocast", [False, True])
def test_micro_batches_have_the_loss_and_the_gradient_of_the_whole_batch(num_concepts, autocast):
    pixel_values = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    results = []
    for micro_batch_size in (None, 2):
        torch.manual_seed(0)
        unet = FDAEUNet2DModel(**MICRO_UNET)
        torch.nn.init.normal_(unet.conv_out.weight, std=0.1)  # zero, it would stop the gradient
        encoder = CMFNet(**{**MICRO_ENCODER, "num_concepts": num_concepts})
        weights = {"content_decorrelation": 0.5, "mask_entropy": 0.5}
        objective = FDAEObjective(
            unet, encoder, EDMHeunScheduler(), loss_weights=weights, micro_batch_size=micro_batch_size
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = objective(pixel_values, generator=torch.Generator().manual_seed(1))
        (output.loss / 2).backward()  # as when gradients are accumulated
        gradients = {name: parameter.grad for name, parameter in objective.named_parameters()}
        results.append((dict(objective.named_buffers()), output._asdict(), gradients))
    tolerance = 1e-2 if autocast else 1e-6
    torch.testing.assert_close(*results, atol=tolerance, rtol=tolerance)


def test_micro_batches_hold_the_activations_of_one_at_a_time(images):
    objective = make_objective(micro_batch_size=1)
    activations = []

    def watch(module, arguments, output):
        assert len(output) == 1
        assert not any(activation() is not None for activation in activations)
        activations.append(weakref.ref(output))

    objective.unet.conv_in.register_forward_hook(watch)
    output = objective(images * 2 - 1)
    assert len(activations) == len(images) > 1
    assert activations[-1]() is None
    output.loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        output.loss.backward()


def test_micro_batches_need_no_gradient(images):
    objective = make_objective(micro_batch_size=1).requires_grad_(False)
    whole = make_objective().requires_grad_(False)
    losses = [each(images * 2 - 1, generator=torch.Generator().manual_seed(0)).loss for each in (objective, whole)]
    torch.testing.assert_close(*losses)
    assert not losses[0].requires_grad


def test_micro_batches_of_no_image_are_refused():
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1, not 0"):
        make_objective(micro_batch_size=0)


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    pixel_values = (torch.rand(5, 3, 1, 1) * 2 - 1).expand(5, 3, 16, 16)
    objective = FDAEObjective(FDAEUNet2DModel(**MICRO_UNET), CMFNet(**MICRO_ENCODER), EDMHeunScheduler())
    optimizer = torch.optim.RAdam(objective.parameters(), lr=1e-2)

    def loss():
        return objective(pixel_values, generator=torch.Generator().manual_seed(0)).loss

    before = loss().item()
    for _ in range(60):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss().item() < 0.5 * before
