"""What the readers of original files share: rows with labels, errors of one line, one array of images."""

import contextlib
import io
import itertools
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import scipy.io
from PIL import Image

from ...errors import FDAEError, first_line
from .base import Benchmark, Originals, Row

BLOCK = 1024  # images read at a time

_READ_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, NotImplementedError),
    *(struct.error, zlib.error, zipfile.BadZipFile, tarfile.TarError, scipy.io.matlab.MatReadError),
)


@contextlib.contextmanager
def naming_the_file(source: Path | str) -> Iterator[None]:
    """Turn the many errors of file readers into one line that names the file."""
    try:
        yield
    except FDAEError:
        raise
    except _READ_ERRORS as error:
        raise FDAEError(f"cannot read {source}, is it whole? ({first_line(error)})") from error


def image_and_label_features(
    benchmark: Benchmark, pictures: tuple[str, ...], **named: Sequence[str]
) -> datasets.Features:
    """Columns of a benchmark: pictures, then labels with the names that `named` or the benchmark gives their values.

    Values of a factor that have no names, or another number of them, are numbered.
    """
    features: dict[str, Any] = {column: datasets.Image() for column in pictures}
    for column, factor, size in zip(
        benchmark.label_columns, benchmark.factor_names, benchmark.factor_sizes, strict=True
    ):
        values = list(named.get(factor) or benchmark.value_names.get(factor, ()))
        features[column] = datasets.ClassLabel(names=values if len(values) == size else [str(i) for i in range(size)])
    return datasets.Features(features)


def add_labels(benchmark: Benchmark, pictures: Iterator[Row]) -> Iterator[Row]:
    """Add the labels to the pictures of all images, which are in row-major order."""
    factors = itertools.product(*(range(size) for size in benchmark.factor_sizes))
    for values, row in zip(factors, pictures, strict=True):
        yield {**row, **dict(zip(benchmark.label_columns, values, strict=True))}


def encode_png(image: Image.Image) -> Row:
    """Return an image as PNG in the form that `datasets.Image` stores."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def read_array(
    benchmark: Benchmark, source: Path, read_blocks: Callable[[Benchmark, Path], Iterator[np.ndarray]]
) -> Originals:
    """Read one array of images in the benchmark's order, in blocks (b, H, W, 3)."""

    def pictures() -> Iterator[Row]:
        with naming_the_file(source):
            for block in read_blocks(benchmark, source):
                for image in block:
                    yield {"image": encode_png(Image.fromarray(image))}

    return image_and_label_features(benchmark, ("image",)), add_labels(benchmark, pictures())


def check_array(benchmark: Benchmark, source: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Accept the images (n, H, W, 3), or with one axis for each factor in the place of n, as bytes."""
    if dtype != np.uint8 or len(shape) < 4 or shape[-1] != 3:
        raise FDAEError(f"the images in {source} must be uint8 of shape (n, height, width, 3), not {dtype} {shape}")
    if shape[:-3] not in ((benchmark.num_images,), benchmark.factor_sizes):
        found = " x ".join(f"{size:,}" for size in shape[:-3])
        raise FDAEError(f"{source} holds {found} images; {benchmark.name} has {benchmark.num_images:,}")
