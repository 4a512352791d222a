"""Images of any data set that `datasets` reads, as pixel values for training."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import FDAEError, first_line
from ..image_processing import to_pixel_values
from .benchmarks import RENDERED_SHAPES3D, get_benchmark
from .shapes3d import rendered_shapes3d

logger = logging.getLogger(__name__)


def load_image_dataset(
    dataset_name: str | None = None,
    train_data_dir: str | None = None,
    *,
    dataset_config_name: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    cache_dir: str | None = None,
    max_samples: int | None = None,
    size: int = 64,
) -> datasets.Dataset:
    """Load a data set that has images.

    Args:
        dataset_name: Data set on the Hugging Face Hub, a local folder laid out like one, or "shapes3d-rendered" for
            Shapes3D as `rendered_shapes3d` draws it.
        train_data_dir: Folder of image files; give this or `dataset_name`.
        dataset_config_name: Configuration of the data set, where it has several.
        split: Split to load.
        image_column: Column of the images; found if it is not named.
        cache_dir: Where `datasets` keeps what it downloads and converts.
        max_samples: Keep this many rows, drawn at random but always the same, in their order. (Rows of a benchmark are
            ordered by their factors: the first ones would be nearly the same image.)
        size: Height and width at which "shapes3d-rendered" is rendered; other images stay as they are.

    Raises:
        FDAEError: with one line that says what is wrong and what to do.
    """
    if (dataset_name is None) == (train_data_dir is None):
        raise FDAEError("give either dataset_name or train_data_dir")
    if dataset_name == RENDERED_SHAPES3D:
        dataset = rendered_shapes3d(size)
    elif dataset_name is not None:
        dataset = _load(dataset_name, name=dataset_config_name, split=split, cache_dir=cache_dir)
    else:
        if not Path(str(train_data_dir)).is_dir():
            raise FDAEError(f"there is no folder {train_data_dir!r}")
        dataset = _load("imagefolder", data_dir=train_data_dir, split=split, cache_dir=cache_dir)
    find_image_column(dataset, image_column)
    if max_samples is not None and max_samples < len(dataset):
        chosen = np.random.default_rng(0).choice(len(dataset), max_samples, replace=False)
        dataset = dataset.select(np.sort(chosen))
    return dataset


def _load(path: str, **kwargs: Any) -> datasets.Dataset:
    try:
        return datasets.load_dataset(path, **kwargs)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise FDAEError(f"cannot load the data set {kwargs.get('data_dir', path)!r}: {first_line(error)}") from error


def find_image_column(dataset: datasets.Dataset, image_column: str | None = None) -> str:
    """Return the column that holds images: the one that is named, else "image" if it does, else the first that does.

    Raises:
        FDAEError: if there is no such column, or the data set has no rows.
    """
    if not len(dataset):
        raise FDAEError("the data set is empty")
    if dataset.format["type"] == "custom":  # a transform: only a row tells
        first_row = dataset[0]
        columns, with_images = list(first_row), [name for name in first_row if _is_image(first_row[name])]
    else:
        columns = dataset.column_names
        with_images = [name for name in columns if isinstance(dataset.features[name], datasets.Image)]
    if image_column is None and with_images:
        return "image" if "image" in with_images else with_images[0]
    if image_column is not None and image_column in with_images:
        return image_column
    if image_column is None:
        problem = "none of the columns holds images"
    elif image_column in columns:
        problem = f"column {image_column!r} has no images"
    else:
        problem = f"there is no column {image_column!r}"
    raise FDAEError(f"{problem}; the columns are {', '.join(columns)}")


def _is_image(value: Any) -> bool:
    return isinstance(value, Image.Image)


def _decode(value: dict[str, Any]) -> Image.Image:
    """Decode an undecoded value of an image column."""
    data = Path(value["path"]).read_bytes() if value["bytes"] is None else value["bytes"]
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise FDAEError("it is no image of a known format") from None
    image.load()
    return image


class ImageDataset(torch.utils.data.Dataset):
    """The images of a data set as {"pixel_values": (3, size, size)}, float32 in [-1, 1].

    Data loaders fetch a batch at once, so that data sets which make their images on access make a batch at once too.

    Args:
        dataset: Data set with an image column or with a transform that makes PIL images.
        size: Height and width of the pixel values.
        image_column: Column of the images; found if it is not named.
        on_bad_image: What to do with an image that cannot be read: "raise" an `FDAEError` that names it, or "skip" it:
            give the next readable one instead and log a warning, once for each bad image.

    Attributes:
        bad_rows: Rows that were skipped so far; in a data loader's worker, by that worker.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        size: int,
        image_column: str | None = None,
        on_bad_image: Literal["raise", "skip"] = "raise",
    ):
        if on_bad_image not in ("raise", "skip"):
            raise ValueError(f'on_bad_image must be "raise" or "skip", got {on_bad_image!r}')
        self.image_column = find_image_column(dataset, image_column)
        if dataset.format["type"] != "custom":
            # images are decoded below, where an error can be told from its row
            dataset = dataset.with_format(None).select_columns([self.image_column])
            dataset = dataset.cast_column(self.image_column, datasets.Image(decode=False))
        self.dataset = dataset
        self.size = size
        self.on_bad_image = on_bad_image
        self.bad_rows: set[int] = set()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Return the items of several rows; torch's data loaders call this for a batch."""
        rows = [int(row) for row in rows]
        values = self.dataset[rows][self.image_column]
        return [{"pixel_values": self._read(row, value)} for row, value in zip(rows, values, strict=True)]

    def _read(self, row: int, value: Any) -> torch.Tensor:
        """Return the image (3, size, size) of a row, or the next one that can be read."""
        for _ in range(len(self)):
            try:
                return to_pixel_values(value if _is_image(value) else _decode(value), self.size)[0]
            except Exception as error:  # decoders raise errors of many kinds
                self._report(row, value, error)
            row = (row + 1) % len(self)
            value = self.dataset[row][self.image_column]
        raise FDAEError("none of the images can be read")

    def _report(self, row: int, value: Any, error: Exception) -> None:
        path = value.get("path") if isinstance(value, dict) else None
        name = f"row {row} ({path})" if path else f"row {row}"
        if self.on_bad_image == "raise":
            raise FDAEError(f"cannot read the image of {name}: {error}") from error
        if row not in self.bad_rows:
            self.bad_rows.add(row)
            logger.warning("skipping the image of %s, which cannot be read: %s", name, error)


def load_benchmark(
    name: str, path: str | None = None, size: int = 64, max_samples: int | None = None
) -> tuple[ImageDataset, np.ndarray]:
    """Load the images of a benchmark and their factors (n, F).

    Args:
        name: One of `BENCHMARKS`, or "shapes3d-rendered".
        path: Local folder or Hub id of the data set, instead of the benchmark's own place on the Hub.
        size: Height and width of the images.
        max_samples: As for `load_image_dataset`.

    Raises:
        FDAEError: if there is no such benchmark, or its data set cannot be loaded.
    """
    benchmark = get_benchmark(name)
    source = RENDERED_SHAPES3D if name == RENDERED_SHAPES3D else path or benchmark.hub_id
    if source is None:
        raise FDAEError(
            f"{name} is not on the Hub as parquet: name a folder that training/convert_dataset.py made as dataset_path"
        )
    dataset = load_image_dataset(source, size=size, max_samples=max_samples)
    return ImageDataset(dataset, size, image_column=benchmark.image_column), benchmark.read_factors(dataset)
