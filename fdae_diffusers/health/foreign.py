"""Tell pictures that are unlike a model's own: it cannot reconstruct them, and its masks and edits mean nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..image_processing import ImageInput
from ..pipeline_fdae import FDAEPipeline
from .measure import Reconstruction
from .report import HealthReport


@dataclass(frozen=True)
class ForeignImage:
    """A picture unlike those that a model knows.

    Attributes:
        index: Its place among the images.
        psnr: Of its reconstruction, in dB.
        own_psnr: Mean over the model's own pictures, in dB.
    """

    index: int
    psnr: float
    own_psnr: float

    def describe(self, name: str) -> str:
        """Say in a line what is wrong with it."""
        return (
            f"{name} is unlike what the model was trained on (reconstructed at {self.psnr:.1f} dB, its own pictures "
            f"at {self.own_psnr:.0f}): expect nonsense"
        )


def find_foreign_images(
    pipeline: FDAEPipeline, images: ImageInput, health: HealthReport, batch_size: int = 64
) -> list[ForeignImage]:
    """Reconstruct images and return those that come out far worse than the model's own pictures.

    Args:
        pipeline: The model, with the sampler that it was saved with.
        images: Images of any kind.
        health: Its health on its own pictures.
        batch_size: Pictures decoded at a time.
    """
    made = Reconstruction(pipeline, images, num_inference_steps=health.num_inference_steps, batch_size=batch_size)
    return foreign_among(made.psnr.tolist(), health)


def foreign_among(image_psnr: Sequence[float], health: HealthReport) -> list[ForeignImage]:
    """Return the foreign ones of images by the PSNR of their reconstructions, in dB."""
    return [
        ForeignImage(index, value, health.psnr) for index, value in enumerate(image_psnr) if health.is_foreign(value)
    ]
