"""Figures of images, masks, edits and scores, each returned as one PIL image (FDAE paper, fig. 3; supplement, 3-6)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import PIL.Image
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import ImageDraw, ImageFont

CELL_SIZE = 96  # pixels of a picture in a figure, whatever the model's resolution
GAP = 4
HEADER_HEIGHT = 18
LABEL_WIDTH = 84
PANELS_PER_ROW = 3


def image_grid(
    rows: Sequence[Sequence[PIL.Image.Image | None]], headers: Sequence[str] = (), labels: Sequence[str] = ()
) -> PIL.Image.Image:
    """Arrange pictures in rows of equal cells; ``None`` leaves a cell empty.

    Args:
        rows: Pictures of any size; each is scaled to a square cell, small ones without smoothing.
        headers: Titles of the columns.
        labels: Titles of the rows, to their left.

    Raises:
        ValueError: If there is no picture.
    """
    if not rows or not rows[0]:
        raise ValueError("a figure needs at least one picture")
    top = HEADER_HEIGHT if headers else 0
    left = LABEL_WIDTH if labels else 0
    pitch = CELL_SIZE + GAP
    num_columns = max(len(row) for row in rows)
    figure = PIL.Image.new("RGB", (left + num_columns * pitch + GAP, top + len(rows) * pitch + GAP), "white")
    draw = ImageDraw.Draw(figure)
    font = ImageFont.load_default(12)
    for column, header in enumerate(headers):
        center = (left + GAP + column * pitch + CELL_SIZE // 2, top // 2 + 1)
        draw.text(center, header, fill="black", anchor="mm", font=font)
    for row, label in enumerate(labels):
        end = (left - GAP, top + GAP + row * pitch + CELL_SIZE // 2)
        draw.text(end, label, fill="black", anchor="rm", font=font)
    for i, pictures in enumerate(rows):
        for j, picture in enumerate(pictures):
            if picture is not None:
                figure.paste(_fit_cell(picture), (left + GAP + j * pitch, top + GAP + i * pitch))
    return figure


def mask_figure(images: Sequence[PIL.Image.Image], masks: torch.Tensor) -> PIL.Image.Image:
    """Draw one row per image: the image, a heat map per concept, and each pixel in its strongest concept's colour.

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
    """Draw one column per image: the image above its reconstruction."""
    return image_grid([images, reconstructions])


def swap_grid_figure(images: Sequence[PIL.Image.Image], grid: Sequence[Sequence[PIL.Image.Image]]) -> PIL.Image.Image:
    """Draw the swap grid with its sources: content from the image on the left, masks from the image above.

    Args:
        images: n pictures.
        grid: n rows of n pictures, as of :meth:`FDAEPipeline.swap_grid`.
    """
    rows: list[list[PIL.Image.Image | None]] = [[None, *images]]
    rows += [[image, *row] for image, row in zip(images, grid, strict=True)]
    return image_grid(rows)


def single_swap_figure(
    source: PIL.Image.Image, target: PIL.Image.Image, swaps: Sequence[PIL.Image.Image]
) -> PIL.Image.Image:
    """Draw the source with one code of the target at a time: content codes in the first row, mask codes in the second.

    Args:
        source: Picture that is edited.
        target: Picture that gives the codes.
        swaps: 2N pictures, decoded from :meth:`FDAECodes.single_swaps`; one for a single-concept model.
    """
    num_concepts = max(1, len(swaps) // 2)
    rows: list[list[PIL.Image.Image | None]] = [[source, target, *swaps[:num_concepts]]]
    if len(swaps) > 1:
        rows.append([None, None, *swaps[num_concepts:]])
    headers = ["source", "target", *(f"concept {n}" for n in range(num_concepts))]
    return image_grid(rows, headers, ["content code", "mask code"][: len(rows)])


def traversal_figure(
    rows: Sequence[Sequence[PIL.Image.Image]], labels: Sequence[str], values: Sequence[float]
) -> PIL.Image.Image:
    """Draw one row per code or component, one column per value along it (FDAE paper, supplement, fig. 6).

    Args:
        rows: Pictures decoded from :meth:`CodeBasis.traverse`, one per value.
        labels: What each row moves along.
        values: V values in standard deviations from the mean.

    Raises:
        ValueError: If a row has not one picture per value, or not one label.
    """
    if len(labels) != len(rows) or any(len(row) != len(values) for row in rows):
        raise ValueError(f"got {len(labels)} labels and {len(values)} values for rows of {[len(row) for row in rows]}")
    return image_grid(rows, [f"{value:+g} sd" if value else "mean" for value in values], labels)


def importance_figure(
    importance: np.ndarray, factor_names: Sequence[str], num_concepts: int | None = None
) -> PIL.Image.Image:
    """Draw a panel of bars per factor: how much each code contributes to predicting it (FDAE paper, fig. 3).

    Args:
        importance: (D, F), as of :func:`~fdae_diffusers.metrics.dci`, codes outermost; its columns add up to 1.
        factor_names: F names.
        num_concepts: N: the D dimensions are those of N content codes, then of N mask codes, and a bar is stacked from
            its code's dimensions, the first one at the bottom. ``None`` or 1: every dimension has a bar of its own.

    Raises:
        ValueError: If the names do not fit the columns, or the dimensions no 2N codes.
    """
    num_dims, num_factors = importance.shape
    grouped = (num_concepts or 1) > 1
    num_codes = 2 * (num_concepts or 1) if grouped else num_dims
    if len(factor_names) != num_factors or num_dims % num_codes:
        raise ValueError(
            f"importance of shape {importance.shape} does not fit {len(factor_names)} factors and {num_codes} codes"
        )
    parts = importance.reshape(num_codes, -1, num_factors)  # (codes, dimensions of each, F)
    is_mask = np.arange(num_codes) >= num_codes // 2 if grouped else np.zeros(num_codes, bool)
    colors = mpl.colormaps["tab10"](is_mask.astype(int))

    num_rows = -(-num_factors // PANELS_PER_ROW)
    figure = Figure(figsize=(4 * PANELS_PER_ROW, 2.4 * num_rows), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(num_rows, PANELS_PER_ROW, sharey=True, squeeze=False).flat
    for panel in panels[num_factors:]:
        panel.set_axis_off()
    for panel, factor, bars in zip(panels, factor_names, parts.transpose(2, 1, 0), strict=False):
        bottom = np.cumsum(bars, axis=0) - bars  # (dimensions, codes)
        for heights, start in zip(bars, bottom, strict=True):
            panel.bar(np.arange(num_codes), heights, bottom=start, color=colors, edgecolor="white", linewidth=0.5)
        panel.set_title(factor.replace("_", " "))
        panel.set_ylim(0, 1)
        if grouped:
            panel.set_xticks(range(num_codes), [f"{kind}{n}" for kind in "cm" for n in range(num_codes // 2)])
    figure.supylabel("importance")
    if grouped:
        figure.supxlabel("content codes c, mask codes m")
    canvas.draw()
    return PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def concept_colors(num_concepts: int) -> np.ndarray:
    """Return a colour per concept, (N, 3) in [0, 1]."""
    return mpl.colormaps["tab10"](np.arange(num_concepts) % 10)[:, :3]


def _to_picture(colors: np.ndarray) -> PIL.Image.Image:
    """(H, W, 3 or 4) in [0, 1] to a picture."""
    return PIL.Image.fromarray((colors[..., :3] * 255 + 0.5).astype(np.uint8))


def _fit_cell(picture: PIL.Image.Image) -> PIL.Image.Image:
    enlarge = max(picture.size) <= CELL_SIZE
    resample = PIL.Image.Resampling.NEAREST if enlarge else PIL.Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((CELL_SIZE, CELL_SIZE), resample)
