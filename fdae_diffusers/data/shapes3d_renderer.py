"""Shapes3D, rendered again: every one of its 480,000 images, at any size, without a download.

The images look like those of the real data set (about 26 dB PSNR against five of them) and have its rows and labels,
but they are not it: say so where results are reported. The real images are `eurecom-ds/shapes3d` on the Hub.

What covers a pixel, the geometry, depends on scale, shape and orientation only: 480 cases. A pixel is the sum of what
its floor, wall, object and sky add, and what a surface adds to a colour channel depends on its albedo in that channel,
which takes six values among the ten hues. So, for each channel and exactly,

    image = floor[geometry, albedo] + wall[geometry, albedo] + object[geometry, albedo] + sky[geometry, channel],

and a table of 3 * 6 + 3 planes per geometry renders all images.
"""

import colorsys
import functools

import numpy as np
import numpy.typing as npt

from .shapes3d_scene import FLOOR, OBJECT, ORIENTATIONS, SCALES, SHAPES, SKY, SKY_COLOR, WALL, cast_rays

RAYS_PER_PIXEL = 3  # along each side
HUE_COLORS = np.round([colorsys.hsv_to_rgb(hue / 10, 1, 1) for hue in range(10)], 6)  # (10, 3) albedos
ALBEDOS, _hue_albedos = np.unique(HUE_COLORS, return_inverse=True)  # the six albedos that occur
HUE_ALBEDOS = _hue_albedos.reshape(HUE_COLORS.shape)  # (10, 3) indices into ALBEDOS

_SURFACES = (FLOOR, WALL, OBJECT)  # in the order of their hues among the factors
_PLANES = len(_SURFACES) * len(ALBEDOS) + 3
_GEOMETRY_SIZES = (len(SCALES), len(SHAPES), len(ORIENTATIONS))
_FACTOR_SIZES = (*[len(HUE_COLORS)] * len(_SURFACES), *_GEOMETRY_SIZES)  # of a row, the last factor changing fastest
_ONE_LEVEL = 256  # the table counts in 1/256 of a grey level: 255 levels and a rounding half fit into 16 bits
_BLOCK_BYTES = 2**18  # images are put together in blocks that stay in the processor's cache


class Shapes3DRenderer:
    """Renders rows of Shapes3D. A geometry is ray-cast when it is first asked for and then kept in the table.

    The table grows up to 20 KiB * size² (20 MiB at 32, 79 MiB at 64, 315 MiB at 128). A pickled renderer starts empty.

    Args:
        size: Height and width of the images.
    """

    def __init__(self, size: int = 64):
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.size = size
        num_geometries = int(np.prod(_GEOMETRY_SIZES))
        self._table = np.zeros((num_geometries, _PLANES, size * size), np.uint16)  # takes no memory until written
        self._is_built = np.zeros(num_geometries, bool)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.size,)

    def render(self, rows: npt.ArrayLike) -> np.ndarray:
        """Return the images (n, size, size, 3), uint8, of n rows of the data set, each 0..479,999."""
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        factors = np.stack(np.unravel_index(rows, _FACTOR_SIZES), axis=-1)  # (n, 6)
        geometries = np.ravel_multi_index(tuple(factors[:, 3:].T), _GEOMETRY_SIZES)
        for geometry in np.unique(geometries):
            if not self._is_built[geometry]:
                self._table[geometry] = self._build_planes(geometry)
                self._is_built[geometry] = True

        surface_planes = HUE_ALBEDOS[factors[:, :3]] + len(ALBEDOS) * np.arange(3)[:, None]  # (n, surface, channel)
        sky_planes = np.broadcast_to(_PLANES - 3 + np.arange(3), (len(rows), 1, 3))
        planes = np.concatenate([surface_planes, sky_planes], axis=1) + geometries[:, None, None] * _PLANES
        return self._add_planes(planes)

    def _build_planes(self, geometry: int) -> np.ndarray:
        """Return the planes (3 * 6 + 3, size * size) of one geometry: albedos of floor, wall, object; the sky."""
        scale, shape, orientation = np.unravel_index(geometry, _GEOMETRY_SIZES)
        surfaces = cast_rays(
            float(SCALES[scale]), SHAPES[shape], float(ORIENTATIONS[orientation]), rays=self.size * RAYS_PER_PIXEL
        )
        shades = (ALBEDOS[:, None, None] * surfaces.diffuse + surfaces.specular).clip(0, 1)  # (6, n, n)
        planes = [_pool(shades * (surfaces.layer == surface)) for surface in _SURFACES]
        sky = _pool(surfaces.layer[None] == SKY) * SKY_COLOR[:, None, None]
        values = np.concatenate([*planes, sky]) * (255 * _ONE_LEVEL)
        return values.round().reshape(_PLANES, -1)

    def _add_planes(self, planes: np.ndarray) -> np.ndarray:
        """Return the images (n, size, size, 3) that are the sums of table planes (n, 4, 3)."""
        num_pixels = self.size**2
        table = self._table.reshape(-1, num_pixels)
        images = np.empty((len(planes), num_pixels, 3), np.uint8)
        block = max(1, _BLOCK_BYTES // (num_pixels * 3 * 2))
        for start in range(0, len(planes), block):
            part = planes[start : start + block]
            total = table.take(part[:, 0], axis=0)  # (b, 3, size * size)
            for surface in range(1, part.shape[1]):
                total += table.take(part[:, surface], axis=0)
            total += _ONE_LEVEL // 2
            total //= _ONE_LEVEL
            images[start : start + block] = total.transpose(0, 2, 1)
        return images.reshape(-1, self.size, self.size, 3)


def _pool(rays: np.ndarray) -> np.ndarray:
    """Average the rays (..., n, n) of each pixel."""
    step = RAYS_PER_PIXEL
    total = sum(rays[..., i::step, j::step].astype(np.float32) for i in range(step) for j in range(step))
    return np.asarray(total) / step**2


@functools.lru_cache(maxsize=2)
def shared_renderer(size: int) -> Shapes3DRenderer:
    """Return this process's renderer: data sets that derive from each other share its table."""
    return Shapes3DRenderer(size)
