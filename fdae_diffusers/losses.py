"""The loss terms of FDAE: L = L_rec + w_CD L_CD + w_ME L_ME (FDAE paper, eq. 8-11).

The released code reduces two of them differently from the paper's equations. ``reduction="released"`` goes with the
published weights (w_CD = 2.5e-5, w_ME = 1e-4) and is the default; ``reduction="paper"`` is the equation as printed.
"""

from typing import Literal

import torch
from torch.nn import functional as F

Reduction = Literal["released", "paper"]


def reconstruction_loss(
    denoised: torch.Tensor, pixel_values: torch.Tensor, sigma: torch.Tensor, sigma_data: float = 0.5
) -> torch.Tensor:
    """Weighted denoising error per image, L_rec (Karras et al. 2022, table 1: lambda = 1/sigma^2 + 1/sigma_data^2).

    Args:
        denoised: D(x_t), (B, C, H, W).
        pixel_values: x, (B, C, H, W) in [-1, 1].
        sigma: Noise level, any shape that broadcasts to the images from (B, 1, 1, 1).
        sigma_data: Standard deviation of the data.

    Returns:
        (B,), the mean over pixels and channels of lambda * (D(x_t) - x)^2.
    """
    weight = 1 / sigma**2 + 1 / sigma_data**2
    return (weight * (denoised - pixel_values) ** 2).mean(dim=(1, 2, 3))


def content_decorrelation_loss(content_codes: torch.Tensor, reduction: Reduction = "released") -> torch.Tensor:
    """Correlation between the content codes of different concepts over a batch, L_CD (eq. 10).

    The codes are centred over the batch and normalised per image and concept. ``"paper"`` sums |correlation| over all
    ordered pairs of concepts, with 1/(B-1) inside; ``"released"`` takes the mean over the pairs, with 1/N^2 inside:
    released = paper * (B-1) / (N^3 (N-1)).

    Args:
        content_codes: (B, N, d_c), before the dimension adjustment.
        reduction: ``"released"`` or ``"paper"``.

    Returns:
        A scalar >= 0; zero for a single concept.

    Raises:
        ValueError: If the reduction is unknown, or for ``"paper"`` with a batch of one.
    """
    _check_reduction(reduction)
    batch_size, num_concepts, _ = content_codes.shape
    if num_concepts == 1:
        return content_codes.new_zeros(())
    if reduction == "paper" and batch_size < 2:
        raise ValueError('content_decorrelation_loss(reduction="paper") needs a batch of at least 2 images')

    codes = F.normalize(content_codes.float() - content_codes.float().mean(dim=0), dim=-1)  # (B, N, d_c)
    correlation = torch.einsum("bnd,bmd->nm", codes, codes).abs()  # (N, N), summed over the batch
    off_diagonal = correlation.sum() - correlation.diagonal().sum()
    if reduction == "paper":
        return off_diagonal / (batch_size - 1)
    return off_diagonal / num_concepts**2 / (num_concepts * (num_concepts - 1))


def mask_entropy_loss(masks: torch.Tensor, reduction: Reduction = "released") -> torch.Tensor:
    """Entropy of the masks at each pixel, L_ME (eq. 11): pushes every pixel to a single concept.

    Args:
        masks: (B, N, H, W) in [0, 1], summing to one over N.
        reduction: ``"released"`` sums over the concepts, ``"paper"`` takes their mean (N times smaller).

    Returns:
        A scalar in [0, ln N] (``"released"``), the mean over images and pixels.

    Raises:
        ValueError: If the reduction is unknown.
    """
    _check_reduction(reduction)
    masks = masks.float()  # 1e-20 is zero in half precision
    entropy = -(masks * torch.log(masks + 1e-20)).sum(dim=1).mean()
    return entropy / masks.shape[1] if reduction == "paper" else entropy


def _check_reduction(reduction: str) -> None:
    if reduction not in ("released", "paper"):
        raise ValueError(f'reduction must be "released" or "paper", not {reduction!r}')
