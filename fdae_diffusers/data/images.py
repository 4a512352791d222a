"""Images of any data set that `datasets` reads, as pixel values for training."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import datasets
import numpy as np
import torch
from PIL import Image

from ..errors import FDAEError
from ..image_processing import pixels_to_values
from .benchmarks import BENCHMARKS, get_benchmark
from .reading import ImageReader, OnBadImage
from .sources import load_from_source


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
        dataset_name: Data set on the Hugging Face Hub, a local folder laid out like one, or a benchmark that
            makes its images, as "shapes3d-rendered" does.
        train_data_dir: Folder of image files; give this or `dataset_name`.
        dataset_config_name: Configuration of the data set, where it has several.
        split: Split to load.
        image_column: Column of the images; found if it is not named.
        cache_dir: Where `datasets` keeps what it downloads and converts.
        max_samples: Keep this many rows, drawn at random but always the same, in their order. (Rows of a benchmark are
            ordered by their factors: the first ones would be nearly the same image.)
        size: Height and width at which a benchmark makes its images; other images stay as they are.

    Raises:
        FDAEError: with one line that says what is wrong and what to do.
    """
    _check_max_samples(max_samples)
    if makes_images(dataset_name) and train_data_dir is None:
        if split != "train" or dataset_config_name is not None:
            raise FDAEError(f"{dataset_name} has the split train alone, whole, and no configurations")
        dataset = get_benchmark(dataset_name).load(size)
    else:
        dataset = load_from_source(
            dataset_name, train_data_dir, name=dataset_config_name, split=split, cache_dir=cache_dir
        )
    find_image_column(dataset, image_column)
    return _keep(dataset, max_samples)


def makes_images(name: str | None) -> TypeGuard[str]:
    """Return whether a name is that of a benchmark which makes its images, so that there is nothing to load."""
    return name in BENCHMARKS and BENCHMARKS[name].make is not None


def sample_rows(num_rows: int, max_samples: int) -> np.ndarray:
    """Return the rows that `load_image_dataset` keeps of a data set with more than ``max_samples``, ascending."""
    return np.sort(np.random.default_rng(0).choice(num_rows, max_samples, replace=False))


def _keep(dataset: datasets.Dataset, max_samples: int | None) -> datasets.Dataset:
    if max_samples is None or max_samples >= len(dataset):
        return dataset
    return dataset.select(sample_rows(len(dataset), max_samples))


def _check_max_samples(max_samples: int | None) -> None:
    if max_samples is not None and max_samples < 1:
        raise FDAEError(f"max_samples must be at least 1, not {max_samples}")


def find_image_column(dataset: datasets.Dataset, image_column: str | None = None) -> str:
    """Return the column that holds images: the one that is named, else "image" if it does, else the only one.

    Raises:
        FDAEError: if there is no such column or none can be preferred, or the data set has no rows.
    """
    if not len(dataset):
        raise FDAEError("the data set is empty")
    if dataset.format["type"] == "custom":  # a transform: only a row tells
        first_row = dataset[0]
        with_images = [name for name in first_row if isinstance(first_row[name], Image.Image)]
        return choose_image_column(list(first_row), with_images, image_column)
    return choose_image_column(dataset.column_names, columns_of_images(dataset.features), image_column)


def columns_of_images(features: datasets.Features) -> list[str]:
    """Return the names of the columns that hold images."""
    return [name for name, feature in features.items() if isinstance(feature, datasets.Image)]


def choose_image_column(columns: list[str], with_images: list[str], image_column: str | None) -> str:
    """Return what `find_image_column` does, from the names of all columns and of those that hold images."""
    if image_column is not None and image_column in with_images:
        return image_column
    if image_column is None and "image" in with_images:
        return "image"
    if image_column is None and len(with_images) == 1:
        return with_images[0]
    if image_column is None and with_images:
        raise FDAEError(f"the columns {', '.join(with_images)} hold images: name one of them as image_column")
    if image_column is None:
        problem = "none of the columns holds images"
    elif image_column in columns:
        problem = f"column {image_column!r} has no images"
    else:
        problem = f"there is no column {image_column!r}"
    raise FDAEError(f"{problem}; the columns are {', '.join(columns)}")


class ImageDataset(torch.utils.data.Dataset):
    """The images of a data set as {"pixel_values": (3, size, size)}, float32 in [-1, 1].

    Data loaders fetch a batch at once, so that data sets which make their images on access make a batch at once too.

    Args:
        dataset: Data set with an image column or with a transform that makes PIL images.
        size: Height and width of the pixel values.
        image_column: Column of the images; found if it is not named.
        on_bad_image: What to do with an image that cannot be read: "raise" an `FDAEError` that names it, or "skip" it:
            give the next readable one instead. The first few are named in the log.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        size: int,
        image_column: str | None = None,
        on_bad_image: OnBadImage = "raise",
    ):
        self.reader = ImageReader(size, on_bad_image)
        self.image_column = find_image_column(dataset, image_column)
        if dataset.format["type"] != "custom":
            # images are decoded by the reader, where an error can be told from its row
            dataset = dataset.with_format(None).select_columns([self.image_column])
            dataset = dataset.cast_column(self.image_column, datasets.Image(decode=False))
        self.dataset = dataset
        self.size = size
        self._is_bad = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()  # shared with workers

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Return the items of several rows; torch's data loaders call this for a batch."""
        return [{"pixel_values": values} for values in pixels_to_values(self.read_pixels(rows))]

    def select(self, rows: Sequence[int] | np.ndarray) -> "ImageDataset":
        """Return the images at some rows, in the order of `rows`."""
        return ImageDataset(self.dataset.select(rows), self.size, self.image_column, self.reader.on_bad_image)

    @property
    def bad_rows(self) -> set[int]:
        """Rows that were skipped so far, also by workers of data loaders."""
        return set(self._is_bad.nonzero()[:, 0].tolist())

    @property
    def num_skipped(self) -> int:
        """How many images were skipped so far."""
        return int(self._is_bad.sum())

    def read_pixels(self, rows: Sequence[int]) -> torch.Tensor:
        """Return the images of several rows, (n, 3, size, size), uint8.

        Raises:
            FDAEError: if one cannot be read and is not to be skipped, or all are skipped.
        """
        rows = [int(row) for row in rows]
        values = self.dataset[rows][self.image_column]
        images = np.stack([self._read(row, value) for row, value in zip(rows, values, strict=True)])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def _read(self, row: int, value: Any) -> np.ndarray:
        """Return the image (size, size, 3) of a row, or the next one that can be read."""
        for _ in range(len(self)):
            if not self._is_bad[row]:
                pixels = self.reader.read(value, f"the image of row {row}")
                if pixels is not None:
                    return pixels
                self._is_bad[row] = True
            row = (row + 1) % len(self)
            if not self._is_bad[row]:
                value = self.dataset[row][self.image_column]
        raise FDAEError("none of the images can be read")


def load_benchmark(
    name: str, path: str | None = None, size: int = 64, max_samples: int | None = None
) -> tuple[ImageDataset, np.ndarray]:
    """Load the images of a benchmark and their factors (n, F).

    Args:
        name: One of `BENCHMARKS`.
        path: Local folder or Hub id of the data set, instead of the benchmark's own place on the Hub.
        size: Height and width of the images.
        max_samples: As for `load_image_dataset`.

    Raises:
        FDAEError: if there is no such benchmark, or its data set cannot be loaded.
    """
    benchmark = get_benchmark(name)
    if makes_images(path):
        raise FDAEError(f"{path} is a benchmark of its own, built in: name it without dataset_path")
    _check_max_samples(max_samples)
    dataset = _keep(benchmark.load(size, path), max_samples)
    return ImageDataset(dataset, size, image_column=benchmark.image_column), benchmark.read_factors(dataset)
