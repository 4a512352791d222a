"""The disentanglement benchmarks: data sets with one image for every combination of their factors of variation."""

import math
from dataclasses import dataclass

import datasets
import numpy as np
import numpy.typing as npt

from ..errors import FDAEError

RENDERED_SHAPES3D = "shapes3d-rendered"


@dataclass(frozen=True)
class Benchmark:
    """A data set with one image per combination of factor values, in row-major order: the last factor changes fastest.

    Attributes:
        name: Name in `BENCHMARKS`.
        factor_names: The F factors, slowest first. The labels are in columns of the name "label_" + factor.
        factor_sizes: Number of values of each factor.
        num_concepts: N that Wu and Zheng (2024) train with.
        source: Where the original files are.
        hub_id: Repository on the Hugging Face Hub that `datasets` can read. None where there is none: the original
            files must be turned into a folder of parquet files first, with the image and label columns.
        image_column: Column of the images.
    """

    name: str
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    num_concepts: int
    source: str
    hub_id: str | None = None
    image_column: str = "image"

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


_MPI3D_FACTORS = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
)


def _mpi3d(variant: str, num_colors: int, num_shapes: int, files: str) -> Benchmark:
    sizes = (num_colors, num_shapes, 2, 3, 3, 40, 40)
    source = f"https://github.com/rr-learning/disentanglement_dataset ({files})"
    return Benchmark(f"mpi3d-{variant}", _MPI3D_FACTORS, sizes, num_concepts=6, source=source)


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "shapes3d",
            ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
            (10, 10, 10, 8, 4, 15),
            num_concepts=6,
            source="https://github.com/google-deepmind/3d-shapes (3dshapes.h5)",
            hub_id="eurecom-ds/shapes3d",
        ),
        Benchmark(
            "cars3d",
            ("elevation", "azimuth", "object"),
            (4, 24, 183),
            num_concepts=2,
            source="http://www.scottreed.info/files/nips2015-analogy-data.tar.gz (.mat files)",
        ),
        _mpi3d("toy", 6, 6, "mpi3d_toy.npz"),
        _mpi3d("realistic", 6, 6, "mpi3d_realistic.npz"),
        _mpi3d("real", 6, 6, "mpi3d_real.npz"),
        # coffee cup, tennis ball, croissant, beer cup
        _mpi3d("real-complex", 4, 4, "real3d_complicated_shapes_ordered.npz"),
    )
}


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a name in `BENCHMARKS`; "shapes3d-rendered" has the factors of Shapes3D.

    Raises:
        FDAEError: for another name; it lists those there are.
    """
    if name == RENDERED_SHAPES3D:
        return BENCHMARKS["shapes3d"]
    if name not in BENCHMARKS:
        raise FDAEError(f"unknown benchmark {name!r}: choose one of {', '.join([RENDERED_SHAPES3D, *BENCHMARKS])}")
    return BENCHMARKS[name]
