"""Read the factors of a picture off it: those of the nearest true image of a labelled grid, in squared error.

The search goes by coordinates: all values of one factor (or of a group of factors) at a time, the others held, until
nothing changes, from several starts. It finds the nearest image where the factors act on places of their own; a
local best is possible.
"""

from collections.abc import Callable, Sequence

import numpy as np

Render = Callable[[np.ndarray], np.ndarray]


def read_factors(
    images: np.ndarray,
    render: Render,
    factor_sizes: Sequence[int],
    starts: np.ndarray,
    groups: Sequence[Sequence[int]] | None = None,
    max_rounds: int = 5,
) -> np.ndarray:
    """Return the factors (n, F) of the true images nearest to pictures.

    Args:
        images: (n, H, W, 3), uint8.
        render: The true images (k, H, W, 3), uint8, of rows (k,) of the grid, the last factor changing fastest.
        factor_sizes: Number of values of each of the F factors.
        starts: (n, S, F), factors to start from: for an edited picture, those of the images that it was made of.
        groups: Factors that are searched together, in this order; each factor alone by default.
        max_rounds: Rounds over all groups at most.

    Raises:
        ValueError: If shapes disagree or a start is not on the grid.
    """
    images, starts = np.asarray(images), np.asarray(starts)
    if starts.ndim != 3 or starts.shape[::2] != (len(images), len(factor_sizes)):
        raise ValueError(f"expected starts ({len(images)}, S, {len(factor_sizes)}), got {starts.shape}")
    groups = [[factor] for factor in range(len(factor_sizes))] if groups is None else groups
    return np.stack(
        [_read(*one, render, factor_sizes, groups, max_rounds) for one in zip(images, starts, strict=True)]
    )


def swap_effects(read: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Say how often a swap gave pictures the target's factors, and how often it kept the source's.

    Args:
        read: (n, F), factors of the edited pictures.
        sources: (n, F), factors of the pictures that were edited.
        targets: (n, F), factors of those that gave codes.

    Returns:
        `changed` and `kept` (F,): the shares of pictures, among those whose source and target differ in the factor,
        in which it is the target's or the source's; NaN where none differ.
    """
    differ = sources != targets
    number = differ.sum(axis=0)
    with np.errstate(invalid="ignore"):
        changed = ((read == targets) & differ).sum(axis=0) / number
        kept = ((read == sources) & differ).sum(axis=0) / number
    return {"changed": changed, "kept": kept}


def _read(
    image: np.ndarray,
    starts: np.ndarray,
    render: Render,
    sizes: Sequence[int],
    groups: Sequence[Sequence[int]],
    max_rounds: int,
) -> np.ndarray:
    target = image.astype(np.float32)
    best, best_error = starts[0], np.inf
    for start in np.unique(starts, axis=0):
        factors, error = start, np.inf
        for _ in range(max_rounds):
            before = factors
            for group in groups:
                values = np.indices([sizes[factor] for factor in group]).reshape(len(group), -1).T
                candidates = np.tile(factors, (len(values), 1))
                candidates[:, list(group)] = values
                rendered = render(np.ravel_multi_index(tuple(candidates.T), tuple(sizes)))
                errors = np.square(rendered.astype(np.float32) - target).sum(axis=(1, 2, 3))
                factors, error = candidates[errors.argmin()], errors.min()
            if (factors == before).all():
                break
        if error < best_error:
            best, best_error = factors, error
    return best
