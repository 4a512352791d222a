"""The true images of a labelled grid, and pairs of them to swap codes between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import gen_batches

from ..data import Benchmark
from ..data.benchmarks import SHAPES3D
from ..data.shapes3d_renderer import shared_renderer
from ..pipeline_fdae import FDAEPipeline


@dataclass(frozen=True)
class LabelledGrid:
    """The true images of a benchmark, by their factors.

    Attributes:
        benchmark: Which one.
        render: The images (n, H, W, 3), uint8, of rows (n,), row-major in the factors.
    """

    benchmark: Benchmark
    render: Callable[[np.ndarray], np.ndarray]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the F factors."""
        return self.benchmark.factor_names

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return self.benchmark.factor_sizes

    def images(self, factors: np.ndarray) -> np.ndarray:
        """Return the true images (n, H, W, 3), uint8, of factors (n, F)."""
        return self.render(self.benchmark.factors_to_rows(factors))


class Pairs:
    """Pairs of images that differ in every factor, with codes and starting noise: the same noise for all edits.

    Args:
        pipeline: The model.
        num_pairs: n.
        random_state: Source of the factors and, without ``keep_noise``, of the noise.
        num_inference_steps: Steps of the sampler.
        keep_noise: Start edits from the source images' own noise, by inversion.
        batch_size: Pictures decoded at a time.
        grid: The true images; those of re-rendered Shapes3D by default.
    """

    def __init__(
        self,
        pipeline: FDAEPipeline,
        num_pairs: int,
        random_state: np.random.RandomState,
        num_inference_steps: int,
        keep_noise: bool = False,
        batch_size: int = 64,
        grid: LabelledGrid | None = None,
    ):
        if grid is None:
            grid = LabelledGrid(SHAPES3D, shared_renderer(pipeline.encoder.config.sample_size).render)
        self._grid = grid
        sizes = np.array(grid.factor_sizes)
        self.sources = random_state.randint(sizes, size=(num_pairs, len(sizes)))  # (n, F)
        self.targets = (self.sources + random_state.randint(1, sizes, size=self.sources.shape)) % sizes
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
        """The true images (n, H, W, 3), uint8, of factors (n, F)."""
        return self._grid.images(factors)

    def expected(self, factors: Sequence[str]) -> np.ndarray:
        """Factors (n, F) of the sources, but those named of the targets."""
        return np.where([name in factors for name in self._grid.factor_names], self.targets, self.sources)

    def swap(self, content: Sequence[int], mask: Sequence[int]) -> np.ndarray:
        """Decode edited pictures (n, H, W, 3), uint8: the sources with these codes of the targets."""
        codes = self._codes
        if content or mask:
            codes = codes.swap(self._other_codes, content=content, mask=mask)
        pictures = self._pipeline.decode(
            codes,
            self._num_inference_steps,
            latents=self._noise,
            output_type="np",
            batch_size=self._batch_size,
        )
        return (np.asarray(pictures) * 255).round().astype(np.uint8)

    def _batches(self) -> list[slice]:
        return list(gen_batches(len(self.sources), self._batch_size))
