"""How often a swapped code changes what it should and nothing else, on re-rendered Shapes3D.

The renderer knows the true picture of every edit, so that edited pictures can be judged: their factors are those of
the nearest rendered image (`Shapes3DReader`). Which concept is which is found on pairs of images of its own, from what
each code changes when it is swapped alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import gen_batches

from ..codes import FDAECodes
from ..data.shapes3d_factors import Shapes3DReader
from ..data.shapes3d_renderer import SHAPES3D, shared_renderer
from ..errors import FDAEError
from ..pipeline_fdae import FDAEPipeline

FACTORS = SHAPES3D.factor_names
HUES = ("floor_hue", "wall_hue", "object_hue")


@dataclass(frozen=True)
class Edit:
    """A swap of some codes, and the factors that should become the other image's; all others should stay."""

    name: str
    content: tuple[int, ...]
    mask: tuple[int, ...]
    factors: tuple[str, ...]


class Pairs:
    """Pairs of images that differ in every factor, with codes and starting noise: the same noise for all edits.

    Args:
        pipeline: The model.
        num_pairs: n.
        random_state: Source of the factors and, without ``keep_noise``, of the noise.
        num_inference_steps: Steps of the sampler.
        keep_noise: Start edits from the source images' own noise, by inversion.
        batch_size: Pictures decoded at a time.
    """

    def __init__(
        self,
        pipeline: FDAEPipeline,
        num_pairs: int,
        random_state: np.random.RandomState,
        num_inference_steps: int,
        keep_noise: bool = False,
        batch_size: int = 64,
    ):
        sizes = np.array(SHAPES3D.factor_sizes)
        self.sources = random_state.randint(sizes, size=(num_pairs, len(sizes)))  # (n, 6)
        self.targets = (self.sources + random_state.randint(1, sizes, size=self.sources.shape)) % sizes
        self._renderer = shared_renderer(pipeline.encoder.config.sample_size)
        self._pipeline, self._batch_size = pipeline, batch_size
        self._num_inference_steps = num_inference_steps
        images = self.render(self.sources)
        self._codes = pipeline.encode(images)
        self._other_codes = pipeline.encode(self.render(self.targets))
        if keep_noise:
            self._noise = torch.cat(
                [pipeline.invert(images[rows], self._codes[rows], num_inference_steps) for rows in self._batches()]
            )
        else:
            noise = random_state.standard_normal(images.shape).astype(np.float32)
            self._noise = torch.from_numpy(noise).permute(0, 3, 1, 2)

    def render(self, factors: np.ndarray) -> np.ndarray:
        """The true images (n, H, W, 3), uint8, of factors (n, 6)."""
        return self._renderer.render(SHAPES3D.factors_to_rows(factors))

    def expected(self, factors: Sequence[str]) -> np.ndarray:
        """Factors (n, 6) of the sources, but those named of the targets."""
        return np.where([name in factors for name in FACTORS], self.targets, self.sources)

    def draw(self, content: Sequence[int], mask: Sequence[int]) -> np.ndarray:
        """Edited pictures (n, H, W, 3), uint8: the sources with these codes of the targets."""
        codes = self._codes.swap(self._other_codes, content=content, mask=mask)
        pictures = np.concatenate([self._decode(codes, rows) for rows in self._batches()])
        return (pictures * 255).round().astype(np.uint8)

    def _batches(self) -> list[slice]:
        return list(gen_batches(len(self.sources), self._batch_size))

    def _decode(self, codes: FDAECodes, rows: slice) -> np.ndarray:
        return self._pipeline(
            codes=codes[rows],
            latents=self._noise[rows],
            num_inference_steps=self._num_inference_steps,
            output_type="np",
        ).images


def find_edits(num_concepts: int, pairs: Pairs, reader: Shapes3DReader) -> list[Edit]:
    """Find the concept of each surface from what their codes change.

    A surface's concept is the one whose content code, swapped alone, changes the surface's hue most often. The mask
    of the object does not hold its shadow: the second mask is the one that, swapped along with it, makes most pictures
    right in all factors.

    Args:
        num_concepts: N.
        pairs: Pairs to find them on.
        reader: Judge of the pictures.

    Raises:
        FDAEError: For a single-concept model.
    """
    if num_concepts < 2:
        raise FDAEError("a single-concept model has no concepts to swap")

    effects = np.stack(
        [(reader.read(pairs.draw([concept], ())) == pairs.targets).mean(axis=0) for concept in range(num_concepts)]
    )  # (N, F), the share of pictures whose factors became the other image's
    floor, wall, thing = (int(effects[:, FACTORS.index(hue)].argmax()) for hue in HUES)
    with_second = [
        Edit("object and second mask", (), (thing, concept), ("scale", "shape"))
        for concept in range(num_concepts)
        if concept != thing
    ]
    everything = tuple(range(num_concepts))
    return [
        Edit("none", (), (), ()),
        Edit("floor content", (floor,), (), HUES[:1]),
        Edit("wall content", (wall,), (), HUES[1:2]),
        Edit("object content", (thing,), (), HUES[2:]),
        Edit("all content", everything, (), HUES),
        Edit("object mask", (), (thing,), ("scale", "shape")),
        max(with_second, key=lambda edit: score_edit(edit, pairs, reader)["all_as_expected"]),
        Edit("all masks", (), everything, ("scale", "shape", "orientation")),
    ]


def score_edit(edit: Edit, pairs: Pairs, reader: Shapes3DReader) -> dict[str, Any]:
    """Compare edited pictures with the true ones.

    Returns:
        What was swapped (`content`, `mask`) and should change (`changed`); `as_expected`, by factor, and
        `all_as_expected`: the shares of pictures whose factors came out as they should; `psnr`: the mean over the
        pictures, against the true pictures, in dB.
    """
    pictures = pairs.draw(edit.content, edit.mask)
    expected = pairs.expected(edit.factors)
    hits = reader.read(pictures) == expected  # (n, F)
    errors = np.square((pictures.astype(np.float32) - pairs.render(expected)) / 255).mean(axis=(1, 2, 3))
    return {
        "content": list(edit.content),
        "mask": list(edit.mask),
        "changed": list(edit.factors),
        "as_expected": dict(zip(FACTORS, hits.mean(axis=0).tolist(), strict=True)),
        "all_as_expected": float(hits.all(axis=1).mean()),
        "psnr": float(-10 * np.log10(errors.clip(1e-10)).mean()),
    }


def reader_accuracy(pairs: Pairs, reader: Shapes3DReader) -> dict[str, float]:
    """How often the judge reads each factor right off the true pictures of the pairs."""
    factors = np.concatenate([pairs.sources, pairs.targets])
    return dict(zip(FACTORS, (reader.read(pairs.render(factors)) == factors).mean(axis=0).tolist(), strict=True))
