import math

import pytest
import torch

from fdae_diffusers.losses import content_decorrelation_loss, mask_entropy_loss, reconstruction_loss


def test_reconstruction_loss_weights_by_noise_level():
    denoised, pixel_values = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    sigma = torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
    expected = torch.tensor([4.0 + 4.0, 0.25 + 4.0])  # 1/sigma^2 + 1/0.5^2
    torch.testing.assert_close(reconstruction_loss(denoised, pixel_values, sigma), expected)


def test_decorrelation_of_identical_concepts_is_maximal():
    # Two concepts with the same code: every normalised product is one, so |1/(B-1) sum| = B/(B-1) for both pairs.
    code = torch.randn(8, 1, 5, generator=torch.Generator().manual_seed(0))
    codes = code.expand(8, 2, 5)
    torch.testing.assert_close(content_decorrelation_loss(codes, "paper"), torch.tensor(2 * 8 / 7))


def test_decorrelation_of_orthogonal_concepts_is_zero():
    codes = torch.zeros(4, 2, 2)
    codes[:, 0, 0] = torch.tensor([1.0, -1.0, 2.0, -2.0])
    codes[:, 1, 1] = torch.tensor([1.0, -1.0, 2.0, -2.0])
    assert content_decorrelation_loss(codes) == 0


def test_decorrelation_does_not_see_offset_or_scale_of_a_concept():
    codes = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0))
    moved = codes * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1) + torch.randn(1, 3, 5)
    torch.testing.assert_close(content_decorrelation_loss(moved), content_decorrelation_loss(codes))


@pytest.mark.parametrize(("batch_size", "num_concepts"), [(4, 6), (16, 2)])
def test_released_decorrelation_is_the_papers_times_a_constant(batch_size, num_concepts):
    codes = torch.randn(batch_size, num_concepts, 5, generator=torch.Generator().manual_seed(0))
    factor = (batch_size - 1) / (num_concepts**3 * (num_concepts - 1))
    torch.testing.assert_close(
        content_decorrelation_loss(codes, "released"), factor * content_decorrelation_loss(codes, "paper")
    )


def test_single_concept_has_nothing_to_decorrelate():
    assert content_decorrelation_loss(torch.randn(4, 1, 5)) == 0


def test_entropy_is_zero_for_hard_and_log_n_for_uniform_masks():
    hard = torch.zeros(2, 4, 3, 3)
    hard[:, 1] = 1
    assert mask_entropy_loss(hard) == pytest.approx(0, abs=1e-6)
    uniform = torch.full((2, 4, 3, 3), 0.25)
    assert mask_entropy_loss(uniform).item() == pytest.approx(math.log(4))
    assert mask_entropy_loss(uniform, "paper").item() == pytest.approx(math.log(4) / 4)


def test_losses_do_not_suffer_in_half_precision():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 4, 3, 3, generator=generator).softmax(1)
    masks[:, 0] = 0
    codes = torch.randn(8, 3, 5, generator=generator)
    for dtype in (torch.float16, torch.bfloat16):
        torch.testing.assert_close(mask_entropy_loss(masks.to(dtype)), mask_entropy_loss(masks), atol=1e-2, rtol=0)
        torch.testing.assert_close(
            content_decorrelation_loss(codes.to(dtype)), content_decorrelation_loss(codes), atol=1e-3, rtol=0
        )


def test_entropy_has_finite_gradients_at_hard_masks():
    masks = torch.zeros(1, 2, 2, 2)
    masks[:, 0] = 1
    masks.requires_grad_()
    mask_entropy_loss(masks).backward()
    assert torch.isfinite(masks.grad).all()


@pytest.mark.parametrize("loss", [content_decorrelation_loss, mask_entropy_loss])
def test_unknown_reduction_is_refused(loss):
    with pytest.raises(ValueError, match='"released" or "paper"'):
        loss(torch.rand(2, 3, 4, 4)[:, :, 0] if loss is content_decorrelation_loss else torch.rand(2, 3, 4, 4), "mean")


def test_papers_decorrelation_needs_two_images():
    with pytest.raises(ValueError, match="at least 2 images"):
        content_decorrelation_loss(torch.randn(1, 3, 4), "paper")
