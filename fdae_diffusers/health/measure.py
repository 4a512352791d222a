"""Measure the health of a model on any images: reconstruct them, look at the masks, swap codes with other images."""

import numpy as np
import torch

from ..codes import FDAECodes
from ..errors import FDAEError
from ..image_processing import ImageInput
from ..metrics.pictures import grain, psnr
from ..metrics.segmentation import mask_statistics
from ..pipeline_fdae import FDAEPipeline
from .report import DEAD, HealthReport

DUPLICATE = 0.9  # correlation of two masks at which their concepts are one


def measure_health(
    pipeline: FDAEPipeline,
    images: ImageInput,
    *,
    held_out: bool | None = None,
    num_swaps: int = 32,
    num_inference_steps: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> HealthReport:
    """Measure a model's health on images, without labels.

    Args:
        pipeline: The model, in evaluation mode.
        images: At least two images of any kind, better 64.
        held_out: Whether they were kept from training, for the report.
        num_swaps: Images that swaps are measured on, each with the next image as the other.
        num_inference_steps: Steps of the sampler, the pipeline's own by default.
        seed: Seed of the starting noise, the same for all pictures.
        batch_size: Pictures decoded at a time.

    Raises:
        FDAEError: If there are fewer than two images.
    """
    sources = pipeline.image_array(images)  # (n, H, W, 3) in [0, 1]
    if len(sources) < 2:
        raise FDAEError("the health of a model is measured on two images at least")
    codes = FDAECodes.cat(pipeline.encode(sources[rows]) for rows in _slices(len(sources), batch_size))
    latents = pipeline.prepare_latents(1, generator=torch.Generator().manual_seed(seed))
    steps = pipeline.choose_num_inference_steps(num_inference_steps)

    def decode(edited: FDAECodes) -> np.ndarray:
        return pipeline.decode(
            edited, num_inference_steps=steps, latents=latents, output_type="np", batch_size=batch_size
        )

    masks = np.concatenate(
        [pipeline.decode_masks(codes[rows]).float().cpu().numpy() for rows in _slices(len(sources), batch_size)]
    )  # (n, N, H, W)
    pictures = decode(codes)
    errors = psnr(pictures, sources)
    statistics = mask_statistics(masks, dead_below=DEAD)
    return HealthReport(
        num_images=len(sources),
        held_out=held_out,
        num_inference_steps=steps,
        psnr=float(errors.mean()),
        psnr_low=float(np.percentile(errors, 5)),
        grain=float(grain(pictures, sources).mean()),
        crispness=statistics["crispness"],
        entropy=statistics["entropy"],
        usage=statistics["usage"].tolist(),
        movement=statistics["movement"].tolist(),
        duplicates=_duplicates(masks),
        **_swap_effects(decode, codes, pictures, masks, min(num_swaps, len(sources))),
    )


def _swap_effects(decode, codes: FDAECodes, pictures: np.ndarray, masks: np.ndarray, num_swaps: int) -> dict:
    """Swap codes of the first images with those of the images after them."""
    order = np.arange(num_swaps)
    others = (order + 1) % len(pictures)
    own, other = codes[order.tolist()], codes[others.tolist()]
    distance = np.square(pictures[others] - pictures[order]).mean()

    def change(**kinds) -> np.ndarray:
        """Squared change of each pixel, (num_swaps, H, W)."""
        return np.square(decode(own.swap(other, **kinds)) - pictures[order]).mean(axis=3)

    def effect(squares: np.ndarray) -> float:
        return float(np.sqrt(squares.mean() / max(distance, 1e-12)))

    num_concepts = masks.shape[1]
    content = [change(content=[concept]) for concept in range(num_concepts)]
    inside = [
        float((squares * masks[order, concept]).sum() / max(squares.sum(), 1e-12))
        for concept, squares in enumerate(content)
    ]
    kinds = {"content_effect": [effect(squares) for squares in content], "content_inside": inside}
    if codes.mask is None:
        return {**kinds, "content_effect_all": kinds["content_effect"][0], "mask_effect": [], "mask_effect_all": 0.0}
    return {
        **kinds,
        "content_effect_all": effect(change(content="all")),
        "mask_effect": [effect(change(mask=[concept])) for concept in range(num_concepts)],
        "mask_effect_all": effect(change(mask="all")),
    }


def _duplicates(masks: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of concepts whose masks rise and fall together over pixels and images."""
    flat = masks.swapaxes(0, 1).reshape(masks.shape[1], -1)
    varying = flat.std(axis=1) > 1e-4
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(flat) if len(flat) > 1 else np.ones((1, 1))
    return [
        (one, other)
        for one in range(len(flat))
        for other in range(one + 1, len(flat))
        if varying[one] and varying[other] and correlation[one, other] > DUPLICATE
    ]


def _slices(length: int, batch_size: int) -> list[slice]:
    return [slice(start, start + batch_size) for start in range(0, length, batch_size)]
