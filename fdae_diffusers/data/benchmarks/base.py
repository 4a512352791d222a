"""What a disentanglement benchmark is: a data set with one image for every combination of its factors of variation."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import numpy as np
import numpy.typing as npt

from ...errors import FDAEError
from ..sources import load_from_source

Row: TypeAlias = dict[str, Any]
Originals: TypeAlias = tuple[datasets.Features, Iterator[Row]]


@dataclass(frozen=True)
class Benchmark:
    """A data set with one image per combination of factor values, in row-major order: the last factor changes fastest.

    Attributes:
        name: Name in `BENCHMARKS`.
        factor_names: The F factors, slowest first. The labels are in columns of the name "label_" + factor.
        factor_sizes: Number of values of each factor.
        num_concepts: N to train with; that of Wu and Zheng (2024) where they used the data set.
        source: Where the original files are.
        title: Name in cards.
        citation: BibTeX entry.
        original_files: What `convert_dataset` reads, for its help; empty if `read` is None.
        license: Licence of the images, or several to choose from, by the Hub's names; None if none is stated.
        terms: What a data set's card says of origin and licence besides.
        note: What cards and tables of scores have to say of the data set, if anything: "not the real Shapes3D".
        value_names: Names of the values of factors that have them.
        columns: Image columns with their type and content, for cards: {"image": ("RGB PNG", "the original pixels")}.
        hub_id: Repository on the Hugging Face Hub that `datasets` can read. None where there is none: the original
            files must be turned into a folder of parquet files first, with the image and label columns.
        image_column: Column of the images.
        appearance_factors: Factors of what things look like, which content codes should hold alone; the others are
            place, shape and pose. Empty if that is not told.
        part_column: Image column of the part that each pixel shows, if the data set has one.
        part_names: Names of those parts, the background first; pixels number them.
        read: Reads original files: takes the benchmark and their path, gives the columns and, lazily, the rows.
        make: Makes the data set at a size, without any files; it then needs neither `read` nor `hub_id`.
    """

    name: str
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    num_concepts: int
    source: str
    title: str = ""
    citation: str = ""
    original_files: str = ""
    license: str | tuple[str, ...] | None = None
    terms: str = ""
    note: str | None = None
    value_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    columns: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {"image": ("RGB PNG", "the original pixels")}, hash=False
    )
    hub_id: str | None = None
    image_column: str = "image"
    appearance_factors: tuple[str, ...] = ()
    part_column: str | None = None
    part_names: tuple[str, ...] = ()
    read: "Callable[[Benchmark, Path], Originals] | None" = field(default=None, repr=False)
    make: Callable[[int], datasets.Dataset] | None = field(default=None, repr=False)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Label columns in factor order; a repository may hold them in another order."""
        return tuple(f"label_{name}" for name in self.factor_names)

    @property
    def num_images(self) -> int:
        """Number of images: the product of the factor sizes."""
        return math.prod(self.factor_sizes)

    def rows_to_factors(self, rows: npt.ArrayLike) -> np.ndarray:
        """Return the factor values (..., F) of data set rows (...). ValueError for rows outside the data set."""
        return np.stack(np.unravel_index(np.asarray(rows), self.factor_sizes), axis=-1)

    def factors_to_rows(self, factors: npt.ArrayLike) -> np.ndarray:
        """Return the data set rows (...) of factor values (..., F). ValueError for values that a factor has not."""
        return np.ravel_multi_index(tuple(np.moveaxis(np.asarray(factors), -1, 0)), self.factor_sizes)

    def read_factors(self, dataset: datasets.Dataset) -> np.ndarray:
        """Return the factor values (n, F), int64, of a loaded data set's rows. No image is decoded.

        Raises:
            FDAEError: if a label column is missing or holds values that the factor does not have.
        """
        missing = [column for column in self.label_columns if column not in dataset.column_names]
        if missing:
            raise FDAEError(
                f"{self.name} needs the label columns {', '.join(missing)}; the data set has "
                f"{', '.join(dataset.column_names)}"
            )
        labels = dataset.select_columns(list(self.label_columns)).with_format("numpy")[:]
        factors = np.stack([labels[column] for column in self.label_columns], axis=-1).astype(np.int64)
        for column, values, size in zip(self.label_columns, factors.T, self.factor_sizes, strict=True):
            if values.size and not 0 <= values.min() <= values.max() < size:
                raise FDAEError(f"{column} of {self.name} must be 0..{size - 1}; got {values.min()}..{values.max()}")
        return factors

    def load(self, size: int = 64, path: str | None = None, cache_dir: str | None = None) -> datasets.Dataset:
        """Return the data set: made at a size, or as `datasets` loads it from its place on the Hub or a path.

        Args:
            size: Height and width at which images are made; others stay as they are.
            path: Local folder or Hub id of the data set, instead of the benchmark's own place on the Hub.
            cache_dir: Where `datasets` keeps what it downloads and converts.

        Raises:
            FDAEError: if a benchmark that makes its images is given a path, another one has no place, or it cannot
                be loaded.
        """
        if self.make is not None:
            if path is not None:
                raise FDAEError(f"{self.name} is a benchmark of its own, built in: name it without dataset_path")
            return self.make(size)
        place = path or self.hub_id
        if place is None:
            raise FDAEError(
                f"{self.name} is not on the Hub as parquet: name a folder that training/convert_dataset.py made as "
                "dataset_path"
            )
        return load_from_source(place, None, name=None, split="train", cache_dir=cache_dir)

    def read_originals(self, source: str | Path) -> Originals:
        """Read the original files.

        Args:
            source: File or folder, see `original_files`.

        Returns:
            The columns and, lazily, the rows: pictures as encoded PNG, then the labels in factor order.

        Raises:
            FDAEError: with one line, at once or while rows are read, if files are missing, damaged or not the
                benchmark's, or it has none.
        """
        source = Path(source)
        if self.read is None:
            raise FDAEError(f"{self.name} has no original files to convert")
        if not source.exists():
            raise FDAEError(f"there is no {str(source)!r}: get the original of {self.name} from {self.source}")
        return self.read(self, source)
