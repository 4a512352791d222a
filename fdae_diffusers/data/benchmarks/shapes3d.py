"""Shapes3D (Burgess and Kim, 2018): an object in a room. The original is one HDF5 file; on the Hub it is parquet."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import FDAEError
from . import originals
from .base import Benchmark

MAX_BLOCK = 16 * originals.BLOCK  # images read at a time where the file's chunks are larger: 200 MB at 64x64

CITATION = """@misc{3dshapes18,
  title = {3D Shapes Dataset},
  author = {Burgess, Chris and Kim, Hyunjik},
  howpublished = {https://github.com/google-deepmind/3d-shapes/},
  year = {2018}
}"""


def read(benchmark: Benchmark, source: Path) -> originals.Originals:
    """Read 3dshapes.h5: "images" (n, 64, 64, 3) uint8, "labels" (n, 6). One layer of chunks is in memory at a time."""
    return originals.read_array(benchmark, source, _hdf5_blocks)


def _hdf5_blocks(benchmark: Benchmark, source: Path) -> Iterator[np.ndarray]:
    """Yield the images of 3dshapes.h5 in blocks (b, H, W, 3), after a check that its labels count up as ours do."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise FDAEError('HDF5 files need h5py: pip install "fdae-diffusers[data]"') from error
    with h5py.File(source, "r") as file:
        for key in ("images", "labels"):
            if not isinstance(file.get(key), h5py.Dataset):
                raise FDAEError(f"{source} has no array {key!r}; it has {', '.join(file) or 'nothing'}")
        images, labels = file["images"], file["labels"]
        originals.check_array(benchmark, source, images.shape, images.dtype)
        if images.ndim != 4 or labels.shape != (len(images), len(benchmark.factor_names)):
            raise FDAEError(f"images {images.shape} and labels {labels.shape} in {source} do not fit together")
        _check_labels(benchmark, source, labels[:])
        # Chunks are decompressed whole, so that blocks are whole layers of chunks.
        layer = min(images.chunks[0], MAX_BLOCK) if images.chunks else originals.BLOCK
        step = layer * max(1, originals.BLOCK // layer)
        for start in range(0, len(images), step):
            yield images[start : start + step]


def _check_labels(benchmark: Benchmark, source: Path, labels: np.ndarray) -> None:
    """Check that factor values (n, F), of any unit, enumerate all combinations in row-major order."""
    values = [np.unique(column.round(4), return_inverse=True)[1] for column in labels.T]
    expected = benchmark.rows_to_factors(np.arange(benchmark.num_images))
    wrong = np.flatnonzero((np.stack(values, axis=-1) != expected).any(axis=-1))
    if wrong.size:
        raise FDAEError(f"the labels in {source} are not in the order of {benchmark.name}, first in row {wrong[0]}")


SHAPES3D = Benchmark(
    "shapes3d",
    ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
    (10, 10, 10, 8, 4, 15),
    num_concepts=6,
    source="https://github.com/google-deepmind/3d-shapes (3dshapes.h5)",
    title="Shapes3D",
    citation=CITATION,
    original_files="3dshapes.h5",
    license="apache-2.0",
    value_names={"shape": ("cube", "cylinder", "sphere", "capsule")},
    hub_id="eurecom-ds/shapes3d",
    appearance_factors=("floor_hue", "wall_hue", "object_hue"),
    read=read,
)
