"""Draws from a full factor grid, in the order in which disentanglement_lib and the released code draw.

Every draw takes one `randint` per factor in order, with replacement. Images are indices: each is encoded once, and a
draw only looks up the row of its factor combination.
"""

import numpy as np
from numpy.random import RandomState

from .representation import as_factors


class FactorGrid:
    """All combinations of F factors, and the row in which each of them stands.

    Args:
        factors: (n, F) integers, every combination of every factor's values exactly once, rows in any order.
        num_rows: n, the number of images that `factors` has to describe.

    Attributes:
        sizes: number of values of each factor, F integers.

    Raises:
        ValueError: if `factors` has another shape or type, a factor is constant, or combinations are missing or
            repeated.
    """

    def __init__(self, factors: np.ndarray, num_rows: int):
        factors = as_factors(factors, num_rows)
        values, indices = zip(*(np.unique(column, return_inverse=True) for column in factors.T), strict=True)
        self.sizes = tuple(len(v) for v in values)
        cells, counts = np.unique(np.ravel_multi_index(indices, self.sizes), return_counts=True)
        missing, repeated = int(np.prod(self.sizes)) - len(cells), int((counts > 1).sum())
        if missing or repeated:
            raise ValueError(
                f"factors of sizes {self.sizes} are no full grid: {missing} combinations missing, {repeated} repeated"
            )
        self._rows = np.empty(num_rows, dtype=np.int64)
        self._rows[np.ravel_multi_index(indices, self.sizes)] = np.arange(num_rows)

    def rows(self, factors: np.ndarray) -> np.ndarray:
        """Return the rows (...) of factor combinations (..., F), each value counted from 0."""
        return self._rows[np.ravel_multi_index(tuple(np.moveaxis(factors, -1, 0)), self.sizes)]

    def draw(self, num: int, random_state: RandomState, batch_size: int = 16) -> np.ndarray:
        """Draw `num` factor combinations, (num, F), in batches of `batch_size`."""
        counts = [min(batch_size, num - start) for start in range(0, num, batch_size)]
        return np.concatenate([self._draw_batch(count, random_state) for count in counts])

    def draw_with_fixed_factor(
        self, num: int, batch_size: int, random_state: RandomState
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw `num` batches in which one random factor stands still (FactorVAE).

        Returns:
            The fixed factor of each batch (num,) and the rows of its images (num, batch_size).
        """
        fixed, rows = np.empty(num, np.int64), np.empty((num, batch_size), np.int64)
        for i in range(num):
            fixed[i] = random_state.randint(len(self.sizes))
            factors = self._draw_batch(batch_size, random_state)
            factors[:, fixed[i]] = factors[0, fixed[i]]
            rows[i] = self.rows(factors)
        return fixed, rows

    def draw_pairs_with_fixed_factor(
        self, num: int, batch_size: int, random_state: RandomState
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw `num` batches of image pairs that share one random factor (beta-VAE).

        Returns:
            The shared factor of each batch (num,) and the rows of its pairs (num, 2, batch_size).
        """
        fixed, rows = np.empty(num, np.int64), np.empty((num, 2, batch_size), np.int64)
        for i in range(num):
            fixed[i] = random_state.randint(len(self.sizes))
            pair = np.stack([self._draw_batch(batch_size, random_state) for _ in range(2)])
            pair[1, :, fixed[i]] = pair[0, :, fixed[i]]
            rows[i] = self.rows(pair)
        return fixed, rows

    def _draw_batch(self, num: int, random_state: RandomState) -> np.ndarray:
        return np.stack([random_state.randint(size, size=num) for size in self.sizes], axis=1)
