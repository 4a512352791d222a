"""Measure the health of a model on any images: reconstruct them, look at the masks, swap codes with other images."""

import numpy as np
import torch

from ..codes import FDAECodes
from ..errors import FDAEError
from ..image_processing import ImageInput, to_pixel_values
from ..metrics.pictures import grain, psnr
from ..metrics.segmentation import mask_statistics
from ..pipeline_fdae import FDAEPipeline
from .report import DEAD, HealthReport

DUPLICATE = 0.9  # correlation of two masks at which their concepts are one


class Reconstruction:
    """Images, their codes, and what the model decodes them to, always from the same starting noise.

    Args:
        pipeline: The model, in evaluation mode.
        images: Images of any kind.
        num_inference_steps: Steps of the sampler, the pipeline's own by default.
        seed: Seed of the starting noise, one for all pictures.
        batch_size: Images at a time.

    Attributes:
        num_inference_steps: Steps that are taken.
        sources: (n, H, W, 3) in [0, 1], the images as the model sees them.
        codes: Their codes.
        pictures: (n, H, W, 3) in [0, 1], the reconstructions.
        psnr: (n,) in dB.
    """

    def __init__(
        self,
        pipeline: FDAEPipeline,
        images: ImageInput,
        num_inference_steps: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
    ):
        self.num_inference_steps = num_inference_steps or pipeline.default_num_inference_steps
        self._pipeline, self._batch_size = pipeline, batch_size
        self._latents = pipeline.prepare_latents(1, torch.Generator().manual_seed(seed))
        values = (to_pixel_values(images, pipeline.encoder.config.sample_size) + 1) / 2
        self.sources = values.permute(0, 2, 3, 1).cpu().numpy()
        self.codes = FDAECodes.cat(pipeline.encode(part) for part in values.split(batch_size))
        self.pictures = self.decode(self.codes)
        self.psnr = psnr(self.pictures, self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def decode(self, codes: FDAECodes) -> np.ndarray:
        """Decode codes to pictures (n, H, W, 3) in [0, 1]."""
        pictures = self._pipeline.decode(
            codes,
            num_inference_steps=self.num_inference_steps,
            latents=self._latents,
            output_type="np",
            batch_size=self._batch_size,
        )
        return np.asarray(pictures)

    def masks(self) -> np.ndarray:
        """Decode the masks (n, N, H, W)."""
        slices = [slice(start, start + self._batch_size) for start in range(0, len(self), self._batch_size)]
        return np.concatenate([self._pipeline.decode_masks(self.codes[rows]).cpu().numpy() for rows in slices])


def measure_health(
    pipeline: FDAEPipeline,
    images: ImageInput,
    *,
    held_out: bool | None = None,
    num_swaps: int = 16,
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
    made = Reconstruction(pipeline, images, num_inference_steps, seed, batch_size)
    if len(made) < 2:
        raise FDAEError("the health of a model is measured on two images at least")
    masks = made.masks()
    statistics = mask_statistics(masks, dead_below=DEAD)
    return HealthReport(
        num_images=len(made),
        held_out=held_out,
        num_inference_steps=made.num_inference_steps,
        psnr=float(made.psnr.mean()),
        psnr_low=float(np.percentile(made.psnr, 5)),
        grain=float(grain(made.pictures, made.sources).mean()),
        crispness=statistics["crispness"],
        entropy=statistics["entropy"],
        usage=statistics["usage"].tolist(),
        movement=statistics["movement"].tolist(),
        duplicates=_duplicates(masks),
        image_psnr=made.psnr.tolist(),
        **_swap_effects(made, masks, min(num_swaps, len(made))),
    )


def _swap_effects(made: Reconstruction, masks: np.ndarray, num_swaps: int) -> dict:
    """Swap codes of the first images with those of the images after them."""
    order = np.arange(num_swaps)
    others = (order + 1) % len(made)
    own, other = made.codes[order.tolist()], made.codes[others.tolist()]
    pictures = made.pictures
    distance = np.square(pictures[others] - pictures[order]).mean()

    def change(**kinds) -> np.ndarray:
        """Squared change of each pixel, (num_swaps, H, W)."""
        return np.square(made.decode(own.swap(other, **kinds)) - pictures[order]).mean(axis=3)

    def effect(squares: np.ndarray) -> float:
        return float(np.sqrt(squares.mean() / max(distance, 1e-12)))

    num_concepts = masks.shape[1]
    content = [change(content=[concept]) for concept in range(num_concepts)]
    inside = [
        float((squares * masks[order, concept]).sum() / max(squares.sum(), 1e-12))
        for concept, squares in enumerate(content)
    ]
    kinds = {"content_effect": [effect(squares) for squares in content], "content_inside": inside}
    if made.codes.mask is None:
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
