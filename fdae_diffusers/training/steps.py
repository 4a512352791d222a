"""How many steps of the sampler fit a trained model: the fewest that reconstruct images as well as any number does.

A model that was trained for a short time reconstructs best with few steps: each further step adds details that the
codes do not hold, and errors of the network with them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..codes import FDAECodes
from ..metrics.pictures import grain, psnr
from ..pipeline_fdae import FDAEPipeline
from ..schedulers import SAMPLERS

CANDIDATES = (1, 2, 3, 4, 6, 10, 20)
NUM_IMAGES = 64
TOLERANCE = 0.25  # dB that are not worth another step, which may add grain


@dataclass(frozen=True)
class StepsResult:
    """How images are reconstructed with a number of steps.

    Attributes:
        num_inference_steps: Steps of the sampler.
        psnr: Mean over the images of the peak signal-to-noise ratio, in dB.
        grain: Mean over the images of what :func:`~fdae_diffusers.metrics.pictures.grain` returns: above 0 is grain,
            below 0 is blur.
    """

    num_inference_steps: int
    psnr: float
    grain: float


@dataclass(frozen=True)
class StepsMeasurement:
    """Reconstruction over the number of steps, and the number that follows from it.

    Attributes:
        results: One result per number of steps, ascending.
        num_images: Images that were reconstructed.
        held_out: The training has not seen these images.
    """

    results: list[StepsResult]
    num_images: int
    held_out: bool

    @property
    def best(self) -> int:
        """The fewest steps whose PSNR is within `TOLERANCE` of the highest; 1 if it is nowhere a number."""
        highest = max(result.psnr for result in self.results)
        fitting = (result.num_inference_steps for result in self.results if result.psnr >= highest - TOLERANCE)
        return next(fitting, self.results[0].num_inference_steps)

    def as_record(self) -> dict[str, Any]:
        """Return what ``training.json`` tells of it."""
        return {
            "sampling": [asdict(result) for result in self.results],
            "sampling_num_images": self.num_images,
            "sampling_held_out": self.held_out,
        }

    def __str__(self) -> str:
        kind = "not trained on" if self.held_out else "of the training"
        lines = [
            f"reconstruction of {self.num_images} images {kind}:",
            "steps  PSNR [dB]  grain",
            *(f"{item.num_inference_steps:5d}  {item.psnr:9.2f}  {item.grain:+5.3f}" for item in self.results),
            f"saved with the model: num_inference_steps={self.best}",
        ]
        return "\n".join(lines)


def scheduler_for(name: str, num_inference_steps: int | None = None) -> SchedulerMixin:
    """Make a sampler of `SAMPLERS` for a number of steps.

    A single step is the same in every sampler: one call of the U-Net on pure noise at sigma 80. Euler does it, because
    stock samplers at exponentially spaced noise levels cannot.
    """
    return SAMPLERS["euler" if num_inference_steps == 1 else name].make()


def measure_steps(
    pipeline: FDAEPipeline,
    pixel_values: torch.Tensor,
    scheduler: str,
    held_out: bool,
    candidates: Sequence[int] = CANDIDATES,
    batch_size: int = 32,
) -> StepsMeasurement:
    """Measure how well images are reconstructed with each number of steps, always from the same starting noise.

    Args:
        pipeline: The model, in evaluation mode; its scheduler is put back afterwards.
        pixel_values: Images (n, 3, S, S) in [-1, 1].
        scheduler: A key of `SAMPLERS`.
        held_out: Whether the training has not seen the images.
        candidates: Numbers of steps, ascending.
        batch_size: Images decoded at a time.
    """
    images = (pixel_values + 1) / 2  # [0, 1]
    codes = FDAECodes.cat(pipeline.encode(part) for part in images.split(batch_size))
    latents = pipeline.prepare_latents(len(images), torch.Generator().manual_seed(0))
    before, results = pipeline.scheduler, []
    try:
        for num_steps in candidates:
            pipeline.scheduler = scheduler_for(scheduler, num_steps)
            reconstructions = pipeline.decode(
                codes, num_steps, latents=latents, output_type="pt", batch_size=batch_size
            )
            results.append(_compare(images, reconstructions, num_steps))
    finally:
        pipeline.scheduler = before
    return StepsMeasurement(results, len(images), held_out)


def _compare(images: torch.Tensor, reconstructions: torch.Tensor, num_steps: int) -> StepsResult:
    """Compare reconstructions with their images, both (n, 3, H, W) in [0, 1]."""
    pictures, references = (np.moveaxis(pair.cpu().numpy(), 1, 3) for pair in (reconstructions, images))
    errors, excess = psnr(pictures, references), grain(pictures, references)
    return StepsResult(num_steps, round(float(errors.mean()), 3), round(float(excess.mean()), 4))
