import pytest
import torch
from conftest import MICRO_ENCODER, MICRO_UNET, micro_pipeline

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEObjective, FDAEUNet2DModel


def make_objective(**arguments) -> FDAEObjective:
    pipeline = micro_pipeline()
    return FDAEObjective(pipeline.unet, pipeline.encoder, pipeline.scheduler, **arguments)


def test_loss_is_the_weighted_sum_of_its_parts(images):
    objective = make_objective(content_decorrelation_weight=3.0, mask_entropy_weight=5.0)
    output = objective(images * 2 - 1)
    torch.testing.assert_close(
        output.loss,
        output.reconstruction_loss + 3 * output.content_decorrelation_loss + 5 * output.mask_entropy_loss,
    )


def test_untrained_network_has_the_closed_form_loss():
    # F = 0, so D = c_skip * x_t, and lambda * (c_skip * (x + sigma n) - x)^2 follows from the numbers alone.
    objective = FDAEObjective(FDAEUNet2DModel(**MICRO_UNET), CMFNet(**MICRO_ENCODER), EDMHeunScheduler())
    pixel_values, noise = torch.ones(2, 3, 16, 16), torch.full((2, 3, 16, 16), -1.0)
    sigma = torch.full((2, 1, 1, 1), 1.5)
    c_skip = 0.25 / (1.5**2 + 0.25)
    expected = (1 / 1.5**2 + 1 / 0.25) * (c_skip * (1 - 1.5) - 1) ** 2
    assert objective.loss(pixel_values, sigma, noise).reconstruction_loss.item() == pytest.approx(expected, rel=1e-5)


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
