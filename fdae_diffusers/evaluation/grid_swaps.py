"""What swapped codes change on any labelled grid: an edited picture has the factors of the nearest true image.

Every single code is swapped, and all content and all mask codes. Of each swap it is counted how often a factor becomes
the other image's and how often it stays as it was; what is neither came out as a third value. Of single codes nothing
is expected; all content codes should bring the factors of appearance, and all mask codes the others.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..data import ImageDataset, get_benchmark, load_benchmark
from ..data.sprites_renderer import LAYERS, SpritesRenderer
from ..errors import FDAEError, user_errors
from ..metrics.nearest import read_factors, swap_effects
from .pairs import LabelledGrid, Pairs

CACHED_IMAGES = 20_000  # true images that are kept decoded


def open_grid(name: str, path: str | None, size: int) -> LabelledGrid:
    """Open the images of a benchmark: rendered, composed from a folder of Sprites' sheets, or read from its data set.

    Args:
        name: One of `BENCHMARKS`.
        path: Local folder or Hub id of the data set, or the folder of the sheets.
        size: Height and width of the images.

    Raises:
        FDAEError: If there is no such benchmark, its images cannot be loaded, or some combination of factors is
            missing.
    """
    benchmark = get_benchmark(name)
    if name.startswith("sprites") and path is not None and (Path(path) / next(iter(LAYERS))).is_dir():
        published = "shoes" not in benchmark.factor_names
        with user_errors(f"cannot compose {name} at {size}x{size}", ValueError):
            return LabelledGrid(benchmark, SpritesRenderer(path, size=size, published=published).render)
    images, factors = load_benchmark(name, path, size)
    if len(factors) != benchmark.num_images:
        raise FDAEError(
            f"{name} has {benchmark.num_images:,} images, one per combination of factors, not {len(factors):,}"
        )
    order = np.empty(benchmark.num_images, np.int64)
    order[benchmark.factors_to_rows(factors)] = np.arange(len(factors))
    return LabelledGrid(benchmark, _Reader(images, order))


class _Reader:
    """Read true images of a data set by their rows in the grid; those that were read last are kept."""

    def __init__(self, images: ImageDataset, order: np.ndarray):
        self._images, self._order = images, order
        self._read = lru_cache(CACHED_IMAGES)(self._read_one)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._read(int(row)) for row in rows])

    def _read_one(self, row: int) -> np.ndarray:
        return self._images.read_pixels([self._order[row]])[0].permute(1, 2, 0).numpy()


def score_grid_swaps(num_concepts: int, pairs: Pairs, grid: LabelledGrid) -> dict[str, Any]:
    """Swap every code alone, all content and all masks, and read the factors off the pictures.

    Args:
        num_concepts: N.
        pairs: The `Pairs` of images to swap between.
        grid: Their true images.

    Returns:
        By the name of the swap: what was swapped (`content`, `mask`); `becomes` and `stays`, by factor, the shares of
        pictures in which it is the other image's and still its own; for the swaps of all codes and of none also
        `expected`, the factors that should become the other image's, and `all_as_expected`, the share of pictures in
        which those do and all others stay.
    """
    everything = tuple(range(num_concepts))
    looks = [name for name in grid.factor_names if name in grid.benchmark.appearance_factors]
    others = [name for name in grid.factor_names if name not in looks]
    swaps: dict[str, tuple[tuple[int, ...], tuple[int, ...], list[str] | None]] = {"none": ((), (), [])}
    swaps |= {f"content {concept}": ((concept,), (), None) for concept in everything}
    swaps["all content"] = (everything, (), looks)
    swaps |= {f"mask {concept}": ((), (concept,), None) for concept in everything}
    swaps["all masks"] = ((), everything, others)
    return {
        name: _score(pairs, grid, content, mask, expected)
        for name, (content, mask, expected) in tqdm(swaps.items(), desc="swaps", disable=None)
    }


def grid_accuracy(pairs: Pairs, grid: LabelledGrid) -> dict[str, float]:
    """How often each factor is read right off the pairs' true pictures, searched from the other image's factors."""
    read = read_factors(grid.images(pairs.sources), grid.render, grid.factor_sizes, pairs.targets[:, None])
    return dict(zip(grid.factor_names, (read == pairs.sources).mean(axis=0).tolist(), strict=True))


def _score(
    pairs: Pairs, grid: LabelledGrid, content: tuple[int, ...], mask: tuple[int, ...], expected: list[str] | None
) -> dict[str, Any]:
    starts = np.stack([pairs.sources, pairs.targets], axis=1)  # (n, 2, F)
    read = read_factors(pairs.swap(content, mask), grid.render, grid.factor_sizes, starts)
    effects = swap_effects(read, pairs.sources, pairs.targets)
    scores: dict[str, Any] = {
        "content": list(content),
        "mask": list(mask),
        "becomes": dict(zip(grid.factor_names, effects["changed"].tolist(), strict=True)),
        "stays": dict(zip(grid.factor_names, effects["kept"].tolist(), strict=True)),
    }
    if expected is not None:
        right = (read == pairs.expected(expected)).all(axis=1)
        scores |= {"expected": expected, "all_as_expected": float(right.mean())}
    return scores


def print_grid_table(result: dict[str, Any]) -> None:
    """Print how often each factor becomes the other image's / stays, for each swap."""
    names = list(result["factors_read"])
    print(
        f"\n{result['model']} on {result['dataset']}, {result['num_pairs']} pairs, "
        f"{result['num_inference_steps']} steps: becomes the other's / stays"
    )
    print(f"{'swapped':<14}" + "".join(f"{name:>13}" for name in names) + f"{'as expected':>13}")
    for name, scores in result["edits"].items():
        cells = [f"{scores['becomes'][factor]:.2f} / {scores['stays'][factor]:.2f}" for factor in names]
        right = f"{scores['all_as_expected']:.3f}" if "expected" in scores else ""
        print(f"{name:<14}" + "".join(f"{cell:>13}" for cell in [*cells, right]))
    print(f"(read off true pictures: {min(result['factors_read'].values()):.3f} right in every factor, at least)")
