"""What is measured of a model's health, and one line of advice for everything that is off."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import FDAEError
from ..utils.files import whole_file

POOR = 20.0  # dB below which a reconstruction does not look like its image
FOG = 0.6  # mean share of the strongest mask below which masks are fog
DEAD = 0.005  # share of the pixels below which a concept is dead
STILL = 0.01  # standard deviation of a mask over the images below which it is the same for all
INERT = 0.05  # change of the picture, against that to a random other picture, below which a swap does nothing
GRAINY = 0.02  # excess of fine structure that the eye sees as noise: 5 of 255 grey levels
FOREIGN_MARGIN = 6.0  # dB below the worst of the model's own pictures at which a picture is foreign


@dataclass(frozen=True)
class HealthReport:
    """Health of a model on n images, none of which needs a label.

    Attributes:
        num_images: n.
        held_out: Whether the images were kept from training; ``None`` if that is not known.
        num_inference_steps: Steps of the sampler that drew the pictures.
        psnr: Mean PSNR of the reconstructions, in dB.
        psnr_low: Fifth percentile over the images, in dB.
        grain: Excess of fine structure in the reconstructions, see :func:`~fdae_diffusers.metrics.pictures.grain`.
        crispness: Mean share of the strongest concept at a pixel, in [1/N, 1].
        entropy: Mean entropy of the masks at a pixel, in [0, ln N] nats.
        usage: (N,) share of the pixels at which each concept is the strongest.
        movement: (N,) standard deviation of each mask over the images, mean over the pixels: 0 for a mask that never
            moves.
        duplicates: Pairs of concepts whose masks go together, correlation above 0.9 over pixels and images.
        content_effect: (N,) change of the picture when a concept's content code is another image's: root mean square,
            as a share of the root mean square difference of the two images.
        mask_effect: (N,) the same for mask codes; empty for a single concept.
        content_effect_all: The same with all content codes of the other image.
        mask_effect_all: The same with all mask codes.
        content_inside: (N,) share of the squared change by a content swap that falls into the concept's own mask.
        image_psnr: (n,) dB of each reconstruction; not in the file.
    """

    num_images: int
    held_out: bool | None
    num_inference_steps: int
    psnr: float
    psnr_low: float
    grain: float
    crispness: float
    entropy: float
    usage: list[float]
    movement: list[float]
    duplicates: list[tuple[int, int]]
    content_effect: list[float]
    mask_effect: list[float]
    content_effect_all: float
    mask_effect_all: float
    content_inside: list[float]
    image_psnr: list[float] = field(default_factory=list, repr=False, compare=False)

    @property
    def dead(self) -> list[int]:
        """Concepts that are hardly ever the strongest anywhere."""
        return [concept for concept, share in enumerate(self.usage) if share < DEAD]

    @property
    def num_alive(self) -> int:
        """Number of concepts that are not dead."""
        return len(self.usage) - len(self.dead)

    def advice(self) -> list[str]:
        """Say what is off, one line each; nothing if the model looks healthy."""
        num_concepts = len(self.usage)
        lines = []
        if not self.psnr >= POOR:  # which is true of NaN too
            lines.append(f"reconstructions are poor ({self.psnr:.1f} dB): train longer")
        if self.grain > GRAINY:
            lines.append(
                f"pictures are grainy ({self.grain:.3f}): end the training at lower noise (p_mean_end), "
                "or take fewer steps of the sampler"
            )
        if num_concepts == 1:
            return lines
        if self.crispness < FOG:
            lines.append(
                f"masks are fog (strongest concept {self.crispness:.2f} on average): train longer, start with shared "
                "masks (mask_init), end with more mask_entropy (loss_weights_end), or take fewer concepts"
            )
        if self.dead:
            lines.append(
                f"{_concepts(self.dead)} never appear{'s' if len(self.dead) == 1 else ''}: "
                f"{self.num_alive} concepts are alive, which num_concepts could be"
            )
        lines += [
            f"concepts {one} and {other} go together: with one concept less they may become one"
            for one, other in self.duplicates
        ]
        if max(self.movement) < STILL:
            lines.append("masks are the same for all images: they say nothing; lower the weight of the mask entropy")
        if self.content_effect_all < INERT:
            lines.append("swapped content codes change nothing: all information is in the masks")
        if self.mask_effect_all < INERT:
            lines.append("swapped mask codes change nothing: all information is in the content codes")
        return lines

    def is_foreign(self, psnr: float) -> bool:
        """Return whether a picture reconstructed at so many dB is unlike those that the model knows."""
        return not psnr >= self.psnr_low - FOREIGN_MARGIN

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, the dead concepts and the advice, ready for JSON."""
        values = {**asdict(self), "dead": self.dead, "num_alive": self.num_alive, "advice": self.advice()}
        del values["image_psnr"]
        return values

    @property
    def numbers(self) -> dict[str, float]:
        """The report in a few numbers, for trackers and tables."""
        inside = [share for share, usage in zip(self.content_inside, self.usage, strict=True) if usage >= DEAD]
        return {
            "psnr": self.psnr,
            "grain": self.grain,
            "crispness": self.crispness,
            "num_alive": self.num_alive,
            "content_inside": sum(inside) / len(inside) if inside else math.nan,
            "content_effect_all": self.content_effect_all,
            "mask_effect_all": self.mask_effect_all,
        }

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, whole or not at all."""
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "HealthReport":
        """Read a report that :meth:`save` wrote.

        Raises:
            FDAEError: If the file is missing or damaged.
        """
        try:
            values = json.loads(Path(path).read_text())
            measured = {item.name: values[item.name] for item in fields(cls) if item.name != "image_psnr"}
            pairs = [(one, other) for one, other in values["duplicates"]]
            return cls(**{**measured, "duplicates": pairs})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FDAEError(f"{path} is no health report: delete it, `fdae check` makes it again") from error

    def __str__(self) -> str:
        """Return the report as lines of text: numbers, then advice."""
        images = {True: "images not trained on", False: "training images", None: "images"}[self.held_out]
        steps = f"{self.num_inference_steps} step{'s' if self.num_inference_steps > 1 else ''} of the sampler"
        lines = [
            f"health on {self.num_images} {images}, {steps}",
            f"  reconstruction  {self.psnr:.1f} dB (5 % below {self.psnr_low:.1f} dB), grain {self.grain:+.3f}",
        ]
        if len(self.usage) > 1:
            lines += [
                f"  masks           strongest concept {self.crispness:.2f}, {self.num_alive} of {len(self.usage)} "
                "concepts alive",
                "  concept         " + "".join(f"{concept:>7}" for concept in range(len(self.usage))) + "    all",
                _row("share of pixels", self.usage),
                _row("content changes", self.content_effect, self.content_effect_all),
                _row("  inside mask", self.content_inside),
                _row("mask changes", self.mask_effect, self.mask_effect_all),
            ]
        return "\n".join([*lines, *(f"  ! {line}" for line in self.advice())])


def _row(title: str, values: list[float], total: float | None = None) -> str:
    end = "" if total is None else f"{total:>7.2f}"
    return f"  {title:<16}" + "".join(f"{value:>7.2f}" for value in values) + end


def _concepts(concepts: list[int]) -> str:
    return ("concept " if len(concepts) == 1 else "concepts ") + ", ".join(map(str, concepts))
