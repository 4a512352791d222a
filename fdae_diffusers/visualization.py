"""Figures of images, masks and swaps, each returned as one PIL image (FDAE paper, fig. 3; supplement, fig. 3-4)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import PIL.Image
import torch
from PIL import ImageDraw, ImageFont

CELL_SIZE = 96  # pixels of a picture in a figure, whatever the model's resolution
GAP = 4
HEADER_HEIGHT = 18


def image_grid(rows: Sequence[Sequence[PIL.Image.Image | None]], headers: Sequence[str] = ()) -> PIL.Image.Image:
    """Lay pictures out in rows of equal cells; ``None`` leaves a cell empty.

    Args:
        rows: Pictures of any size; each is scaled to a square cell, small ones without smoothing.
        headers: Titles of the columns.

    Raises:
        ValueError: If there is no picture.
    """
    if not rows or not rows[0]:
        raise ValueError("a figure needs at least one picture")
    top = HEADER_HEIGHT if headers else 0
    pitch = CELL_SIZE + GAP
    num_columns = max(len(row) for row in rows)
    figure = PIL.Image.new("RGB", (num_columns * pitch + GAP, top + len(rows) * pitch + GAP), "white")
    draw = ImageDraw.Draw(figure)
    for column, header in enumerate(headers):
        center = (GAP + column * pitch + CELL_SIZE // 2, top // 2 + 1)
        draw.text(center, header, fill="black", anchor="mm", font=ImageFont.load_default(12))
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            if picture is not None:
                figure.paste(_fit_cell(picture), (GAP + j * pitch, top + GAP + i * pitch))
    return figure


def mask_figure(images: Sequence[PIL.Image.Image], masks: torch.Tensor) -> PIL.Image.Image:
    """One row per image: the image, a heat map per concept, and every pixel in the colour of its strongest concept.

    Args:
        images: B pictures.
        masks: (B, N, H, W) in [0, 1], as of :meth:`FDAEPipeline.decode_masks`.

    Raises:
        ValueError: If images and masks differ in number.
    """
    if len(images) != len(masks):
        raise ValueError(f"got {len(images)} images and {len(masks)} masks")
    heat = mpl.colormaps["inferno"]
    rows: list[list[PIL.Image.Image | None]] = []
    for image, image_masks in zip(images, masks.float().cpu().numpy(), strict=True):
        heat_maps = [_to_picture(heat(mask)) for mask in image_masks]
        rows.append([image, *heat_maps, _to_picture(concept_colors(len(image_masks))[image_masks.argmax(0)])])
    return image_grid(rows, ["image", *(f"concept {n}" for n in range(masks.shape[1])), "strongest"])


def reconstruction_figure(
    images: Sequence[PIL.Image.Image], reconstructions: Sequence[PIL.Image.Image]
) -> PIL.Image.Image:
    """One column per image: the image above its reconstruction."""
    return image_grid([images, reconstructions])


def swap_grid_figure(images: Sequence[PIL.Image.Image], grid: Sequence[Sequence[PIL.Image.Image]]) -> PIL.Image.Image:
    """The swap grid with its sources: content from the image on the left, masks from the image above.

    Args:
        images: n pictures.
        grid: n rows of n pictures, as of :meth:`FDAEPipeline.swap_grid`.
    """
    rows: list[list[PIL.Image.Image | None]] = [[None, *images]]
    rows += [[image, *row] for image, row in zip(images, grid, strict=True)]
    return image_grid(rows)


def concept_colors(num_concepts: int) -> np.ndarray:
    """A colour per concept, (N, 3) in [0, 1]."""
    return mpl.colormaps["tab10"](np.arange(num_concepts) % 10)[:, :3]


def _to_picture(colors: np.ndarray) -> PIL.Image.Image:
    """(H, W, 3 or 4) in [0, 1] to a picture."""
    return PIL.Image.fromarray(np.uint8(colors[..., :3] * 255 + 0.5))


def _fit_cell(picture: PIL.Image.Image) -> PIL.Image.Image:
    enlarge = max(picture.size) <= CELL_SIZE
    resample = PIL.Image.Resampling.NEAREST if enlarge else PIL.Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((CELL_SIZE, CELL_SIZE), resample)
