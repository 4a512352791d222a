"""Sprites (Li and Mandt 2018, "Disentangled Sequential Autoencoder"), composed from the sheets of its five layers.

A character is five sheets pasted over each other, body first: image = shoes over hair over topwear over bottomwear
over body over background. A sheet holds 13 x 21 cells of 64 x 64 pixels with alpha, which is 0 or 255 but for a few
pixels of seams; in four of its rows, one per direction, the character walks for nine frames. So every image has seven
factors, and a pixel belongs to exactly one part: the uppermost layer that is more than half opaque there.

The published data set has the looks that sheets 0 to 5 of body, bottomwear, topwear and hair make, all with shoes 1,
on black (and of the walk three directions with eight frames). Here these looks have all four directions and nine
frames.

The sheets are not part of this package: they come from the Liberated Pixel Cup and Universal-LPC-spritesheet under
CC-BY-SA 3.0 or GPL 3.0, and so do pictures that are made of them.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import FDAEError, first_line

LAYERS = {"body": 7, "bottomwear": 7, "topwear": 7, "hair": 10, "shoes": 3}  # sheets of each, in paste order
DIRECTIONS = ("back", "left", "front", "right")
NUM_FRAMES = 9
PUBLISHED_LOOKS = 6  # sheets of body, bottomwear, topwear and hair
PUBLISHED_SHOES = 1
BACKGROUNDS = ((0, 0, 0), (128, 128, 128), (64, 96, 144), (112, 144, 88), (176, 144, 112), (224, 224, 224))
MAX_OFFSET = 14  # pixels of a cell; no part of a walk leaves the image

_CELL = 64
_SHEET_SIZE = (13 * _CELL, 21 * _CELL)
_FIRST_WALK_ROW = 8
_HALF_OPAQUE, _OPAQUE = 128 << 24, 255 << 24  # packed pixels from here on: alpha is the highest byte
_BLOCK = 64  # images put together at a time, which then stay in the processor's cache


class SpritesRenderer:
    """Composes rows of Sprites: one image per combination of factors in row-major order, the last changing fastest.

    The factors are body, bottomwear, topwear, hair, shoes (not in the published looks), direction and frame, then
    background and offset where they take more than one value. The sheets take 20 MiB.

    Args:
        folder: Folder with a folder of sheets "0.png", "1.png", ... for each of `LAYERS`.
        size: Height and width of the images: 64 or a divisor of it, whose pixels are means.
        backgrounds: Number of background colours, the first of `BACKGROUNDS`; one is black.
        offsets: Number of horizontal places, evenly spaced up to `MAX_OFFSET` pixels around the middle; one is the
            middle.
        published: Only the 6 x 6 x 6 x 6 looks of the published data set, with shoes 1.

    Attributes:
        factor_names: Names of the F factors, slowest first.
        factor_sizes: Number of values of each factor.
        part_names: "background", then the layers in paste order; `part_masks` numbers them so.

    Raises:
        FDAEError: If a sheet is missing, unreadable or not what this data set has.
        ValueError: If size, backgrounds or offsets are out of range.
    """

    part_names = ("background", *LAYERS)

    def __init__(
        self, folder: str | Path, size: int = 64, backgrounds: int = 1, offsets: int = 1, published: bool = False
    ):
        if size < 1 or _CELL % size:
            raise ValueError(f"size must divide {_CELL}, got {size}")
        if not 1 <= backgrounds <= len(BACKGROUNDS):
            raise ValueError(f"backgrounds must be 1..{len(BACKGROUNDS)}, got {backgrounds}")
        if not 1 <= offsets <= 2 * MAX_OFFSET + 1:
            raise ValueError(f"offsets must be 1..{2 * MAX_OFFSET + 1}, got {offsets}")
        self.size = size
        looks = LAYERS | {name: PUBLISHED_LOOKS for name in LAYERS if name != "shoes"} if published else LAYERS
        sizes = {**looks, "direction": len(DIRECTIONS), "frame": NUM_FRAMES}
        if published:
            del sizes["shoes"]
        sizes |= {name: n for name, n in (("background", backgrounds), ("offset", offsets)) if n > 1}
        self.factor_names = tuple(sizes)
        self.factor_sizes = tuple(sizes.values())
        self._layers = [_read_layer(Path(folder), name, looks[name]) for name in LAYERS]
        self._backgrounds = _pack(np.array([(*color, 255) for color in BACKGROUNDS], np.uint8))  # (k,)
        self._offsets = np.linspace(-MAX_OFFSET, MAX_OFFSET, offsets).round().astype(int) if offsets > 1 else [0]

    @property
    def num_images(self) -> int:
        """Number of images: the product of the factor sizes."""
        return math.prod(self.factor_sizes)

    def render(self, rows: npt.ArrayLike) -> np.ndarray:
        """Return the images (n, size, size, 3), uint8, of n rows, each 0..num_images - 1. ValueError for others."""
        factors = self._factors(rows)
        images = np.empty((len(factors["frame"]), self.size, self.size, 3), np.uint8)
        for block in _blocks(len(images)):
            part = {name: values[block] for name, values in factors.items()}
            composed = np.empty((len(part["frame"]), _CELL, _CELL), np.uint32)
            composed[:] = self._backgrounds[part["background"], None, None]
            for layer in self._cells(part):
                _paste(layer, composed)
            colors = _unpack(composed)[..., :3]
            images[block] = colors if self.size == _CELL else _split(colors, self.size).mean((2, 4)).round()
        return images

    def part_masks(self, rows: npt.ArrayLike) -> np.ndarray:
        """Return the part that each pixel shows, (n, size, size), uint8, as an index into `part_names`.

        Below 64 pixels that is the part which covers most of the pixel, the first of several.
        """
        factors = self._factors(rows)
        masks = np.empty((len(factors["frame"]), self.size, self.size), np.uint8)
        for block in _blocks(len(masks)):
            part = {name: values[block] for name, values in factors.items()}
            parts = np.zeros((len(part["frame"]), _CELL, _CELL), np.uint8)
            for index, layer in enumerate(self._cells(part), start=1):
                parts[layer >= _HALF_OPAQUE] = index
            if self.size < _CELL:
                covered = [_split(parts == index, self.size).sum((2, 4)) for index in range(len(self.part_names))]
                parts = np.argmax(covered, axis=0).astype(np.uint8)
            masks[block] = parts
        return masks

    def _factors(self, rows: npt.ArrayLike) -> dict[str, np.ndarray]:
        """Values (n,) of every factor; of those that do not vary too."""
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        values = dict(zip(self.factor_names, np.unravel_index(rows, self.factor_sizes), strict=True))
        fixed = {"shoes": PUBLISHED_SHOES, "background": 0, "offset": 0}
        return {name: np.full(len(rows), value) for name, value in fixed.items()} | values

    def _cells(self, factors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Each layer's packed pixels (n, 64, 64), in paste order."""
        cells = [
            sheets[factors[name], factors["direction"], factors["frame"]]
            for name, sheets in zip(LAYERS, self._layers, strict=True)
        ]
        for value in np.unique(factors["offset"]):
            if self._offsets[value]:
                moved = factors["offset"] == value
                for cell in cells:
                    cell[moved] = np.roll(cell[moved], self._offsets[value], axis=-1)
        return cells


def _read_layer(folder: Path, name: str, num_sheets: int) -> np.ndarray:
    """Packed pixels (num_sheets, 4 directions, 9 frames, 64, 64) of a layer's sheets; zero where it is transparent."""
    return np.stack([_read_walk(folder / name / f"{sheet}.png") for sheet in range(num_sheets)])


def _read_walk(file: Path) -> np.ndarray:
    """Packed pixels (4, 9, 64, 64) of the walk on one sheet."""
    if not file.is_file():
        raise FDAEError(f"there is no sheet {file}: name the folder with {', '.join(LAYERS)} in it")
    try:
        with Image.open(file) as image:
            size, sheet = image.size, np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports broken chunks as syntax errors
        raise FDAEError(f"cannot read the sheet {file}: {first_line(error)}") from error
    if size != _SHEET_SIZE:
        raise FDAEError(f"the sheet {file} has {size[0]}x{size[1]} pixels, not {_SHEET_SIZE[0]}x{_SHEET_SIZE[1]}")
    cells = sheet.reshape(21, _CELL, 13, _CELL, 4).transpose(0, 2, 1, 3, 4)  # (21, 13, 64, 64, 4)
    walk = cells[_FIRST_WALK_ROW : _FIRST_WALK_ROW + len(DIRECTIONS), :NUM_FRAMES]
    if not walk[..., 3].any(axis=(2, 3)).all():
        raise FDAEError(f"the sheet {file} has an empty cell in its walk")
    return _pack(walk)


def _paste(layer: np.ndarray, under: np.ndarray) -> None:
    """Put packed pixels (n, 64, 64) over opaque ones of the same shape, in place."""
    seams = (layer < _OPAQUE) & (layer >= 1 << 24)
    np.copyto(under, layer, where=layer >= _OPAQUE)
    if seams.any():
        below, above = _unpack(under[seams]).astype(int), _unpack(layer[seams]).astype(int)  # (k, 4)
        alpha = above[:, 3:]
        mixed = (above * alpha + below * (255 - alpha) + 127) // 255
        mixed[:, 3] = 255
        under[seams] = _pack(mixed.astype(np.uint8))


def _pack(colors: np.ndarray) -> np.ndarray:
    """RGBA bytes (..., 4) as one number each, (...)."""
    return np.ascontiguousarray(colors).view("<u4")[..., 0].astype(np.uint32)


def _unpack(packed: np.ndarray) -> np.ndarray:
    """The RGBA bytes (..., 4) of packed pixels (...)."""
    return np.ascontiguousarray(packed, "<u4")[..., None].view(np.uint8)


def _blocks(num_images: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, num_images, _BLOCK)]


def _split(pixels: np.ndarray, size: int) -> np.ndarray:
    """Images (n, 64, 64, ...) as (n, size, step, size, step, ...)."""
    step = _CELL // size
    return pixels.reshape(len(pixels), size, step, size, step, *pixels.shape[3:])
