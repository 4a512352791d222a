"""The loss terms of FDAE: L = L_rec + w_CD L_CD + w_ME L_ME (FDAE paper, eq. 8-11).

The released code reduces two of them differently from the paper's equations. ``reduction="released"`` goes with the
published weights (w_CD = 2.5e-5, w_ME = 1e-4) and is the default; ``reduction="paper"`` is the equation as printed.

`LOSS_TERMS` is the table of all terms. To train with another one, add it before the configuration is made:

    LOSS_TERMS["content_norm"] = LossTerm(
        lambda batch: batch.content_codes.square().mean(), weight=1e-3, symbol="L_CN", title="Size of the codes"
    )
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional as F

from .errors import FDAEError

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


@dataclass(frozen=True, kw_only=True)
class CodeBatch:
    """What a loss term over codes may use.

    Attributes:
        content_codes: (B, N, d_c); of all processes if the objective gathers them.
        mask_codes: (B, N, d_m), ``None`` for a single concept; likewise.
        reduction: ``"released"`` or ``"paper"``.
    """

    content_codes: torch.Tensor
    mask_codes: torch.Tensor | None
    reduction: Reduction = "released"


@dataclass(frozen=True, kw_only=True)
class ImageBatch(CodeBatch):
    """What a loss term over images may use: a batch, or a micro-batch of it, of this process.

    Attributes:
        masks: (B, N, H, W) in [0, 1], summing to one over N.
        condition: What the U-Net is conditioned on, by keyword; of CMFNet ``condition_map`` (B, d_F, H, W).
        pixel_values: x, (B, 3, H, W) in [-1, 1].
        sigma: Noise level, (B, 1, 1, 1).
        noise: Standard normal n, (B, 3, H, W): x_t = x + sigma * n.
        denoised: D(x_t), (B, 3, H, W).
        sigma_data: Standard deviation of the data.
    """

    masks: torch.Tensor
    condition: Mapping[str, torch.Tensor]
    pixel_values: torch.Tensor
    sigma: torch.Tensor
    noise: torch.Tensor
    denoised: torch.Tensor
    sigma_data: float = 0.5


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss.

    Attributes:
        function: Takes an `ImageBatch`, or a `CodeBatch` if ``over`` is ``"codes"``, and returns a scalar.
        weight: Default weight; a term of weight zero is not computed, except for the reconstruction.
        symbol: What the paper, or a table, calls it: ``"L_CD"``.
        title: One line that says what it is.
        over: ``"images"`` for a mean over images, which may be taken micro-batch by micro-batch and process by
            process; ``"codes"`` for a term that compares the images of a batch with each other by their codes.
    """

    function: Callable[[Any], torch.Tensor]
    weight: float
    symbol: str
    title: str
    over: Literal["images", "codes"] = "images"


RECONSTRUCTION = "reconstruction"

LOSS_TERMS: dict[str, LossTerm] = {
    RECONSTRUCTION: LossTerm(
        lambda batch: reconstruction_loss(batch.denoised, batch.pixel_values, batch.sigma, batch.sigma_data).mean(),
        weight=1.0,
        symbol="L_rec",
        title="Weighted denoising error",
    ),
    "content_decorrelation": LossTerm(
        lambda batch: content_decorrelation_loss(batch.content_codes, batch.reduction),
        weight=2.5e-5,
        symbol="L_CD",
        title="Correlation between the content codes of different concepts",
        over="codes",
    ),
    "mask_entropy": LossTerm(
        lambda batch: mask_entropy_loss(batch.masks, batch.reduction),
        weight=1e-4,
        symbol="L_ME",
        title="Entropy of the masks at each pixel",
    ),
}


def complete_loss_weights(weights: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return the weight of every term in `LOSS_TERMS`: the given ones, and the defaults of the others.

    Raises:
        FDAEError: If a name is not that of a term, or a weight is not a finite number.
    """
    weights = dict(weights or {})
    if unknown := sorted(weights.keys() - LOSS_TERMS.keys()):
        raise FDAEError(f"unknown loss terms {', '.join(unknown)}: loss_weights takes {', '.join(LOSS_TERMS)}")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise FDAEError(f"the loss weight of {name} must be a finite number, not {weight!r}")
    return {name: float(weights.get(name, term.weight)) for name, term in LOSS_TERMS.items()}
