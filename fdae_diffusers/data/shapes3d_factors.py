"""Estimate the factors of a Shapes3D picture: those of the rendered image that is nearest to it.

Nearest means least squared error, searched for in turns: of all 480 geometries given the hues, then of the ten hues
of each surface given the geometry, until nothing changes. It starts at the best of the hues that fit a few geometries.
Of images of the renderer itself every factor is right (1,000 at random, 32x32); of others it may stop at a local best.
"""

import numpy as np

from .benchmarks import SHAPES3D
from .shapes3d_renderer import shared_renderer

_NUM_HUES = 3  # the first factors are the hues of floor, wall and object; the others are the geometry
_GEOMETRIES = np.argwhere(np.ones(SHAPES3D.factor_sizes[_NUM_HUES:]))  # (480, 3)
_STARTS = [geometry for geometry in _GEOMETRIES if geometry[0] in (1, 6) and geometry[2] == 7]  # 2 scales, 4 shapes
_MAX_ROUNDS = 10


class Shapes3DFactorEstimator:
    """Estimates the factors of pictures.

    Args:
        size: Height and width of the pictures.
    """

    def __init__(self, size: int):
        self._renderer = shared_renderer(size)

    def estimate(self, images: np.ndarray) -> np.ndarray:
        """Return the factors (n, 6) of pictures (n, size, size, 3), uint8."""
        return np.stack([self._estimate_one(image) for image in images])

    def _estimate_one(self, image: np.ndarray) -> np.ndarray:
        starts = [self._fit_hues(image, np.array([0, 0, 0, *geometry])) for geometry in _STARTS]
        factors = self._nearest(image, np.stack(starts))
        for _ in range(_MAX_ROUNDS):
            before = factors
            candidates = np.tile(factors, (len(_GEOMETRIES), 1))
            candidates[:, _NUM_HUES:] = _GEOMETRIES
            factors = self._fit_hues(image, self._nearest(image, candidates))
            if (factors == before).all():
                break
        return factors

    def _fit_hues(self, image: np.ndarray, factors: np.ndarray) -> np.ndarray:
        for surface in range(_NUM_HUES):
            candidates = np.tile(factors, (SHAPES3D.factor_sizes[surface], 1))
            candidates[:, surface] = np.arange(len(candidates))
            factors = self._nearest(image, candidates)
        return factors

    def _nearest(self, image: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """The factors, of candidates (k, 6), whose image is nearest."""
        rendered = self._renderer.render(SHAPES3D.factors_to_rows(candidates))
        errors = np.square(rendered.astype(np.float32) - image).sum((1, 2, 3))
        return candidates[errors.argmin()]
