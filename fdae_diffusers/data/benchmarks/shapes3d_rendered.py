"""Shapes3D, rendered again: the benchmark that needs no download, see `shapes3d_renderer`."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ..shapes3d_renderer import shared_renderer
from .shapes3d import SHAPES3D

RENDERED_SHAPES3D = "shapes3d-rendered"


def rendered_shapes3d(size: int = 64, rows: Sequence[int] | np.ndarray | None = None) -> datasets.Dataset:
    """Return re-rendered Shapes3D as a data set with the columns of `eurecom-ds/shapes3d`: image and six labels.

    Images are rendered when they are read, a batch in one table look-up, as PIL images. Nothing is written to disk.
    The data set can be selected from, shuffled, split and sent to data loader workers. What is stored in the image
    column, and seen after `with_format(None)`, is the row of the real data set that is to be rendered.

    Args:
        size: Height and width of the images; the real ones have 64.
        rows: Rows of the real data set to hold, each 0..479,999, in this order; all of them by default.
    """
    rows = np.arange(SHAPES3D.num_images) if rows is None else np.asarray(rows, dtype=np.int64)
    columns = {"image": rows, **dict(zip(SHAPES3D.label_columns, SHAPES3D.rows_to_factors(rows).T, strict=True))}
    features = {"image": datasets.Value("int64")}
    for column, num_values in zip(SHAPES3D.label_columns, SHAPES3D.factor_sizes, strict=True):
        features[column] = datasets.ClassLabel(names=[str(value) for value in range(num_values)])
    info = datasets.DatasetInfo(features=datasets.Features(features))
    dataset = datasets.Dataset(datasets.table.InMemoryTable.from_pydict(columns), info=info)
    dataset.set_transform(functools.partial(_render_images, size=size))
    return dataset


def _render_images(batch: dict[str, list[Any]], size: int) -> dict[str, list[Any]]:
    if "image" not in batch:
        return batch
    images = shared_renderer(size).render(batch["image"])
    return {**batch, "image": [Image.fromarray(image) for image in images]}


SHAPES3D_RENDERED = dataclasses.replace(
    SHAPES3D,
    name=RENDERED_SHAPES3D,
    title="Shapes3D, rendered again",
    original_files="",
    license=None,
    note="rendered again, not the real Shapes3D",
    hub_id=None,
    read=None,
    make=rendered_shapes3d,
)
