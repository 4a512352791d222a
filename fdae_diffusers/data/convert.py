"""The benchmarks' original files, read as a stream of data set rows without holding their images in memory.

| benchmark | original | held in memory |
| --- | --- | --- |
| Shapes3D | 3dshapes.h5: "images" (n, 64, 64, 3) uint8, "labels" (n, 6) | the images of one layer of chunks |
| MPI3D | .npz: "images" (n, 64, 64, 3) uint8 | one block of images |
| Cars3D | one .mat per car: "im" (128, 128, 3, 24, 4), "mask" (128, 128, 24, 4) | all images as PNG, about 50 MB |

Rows are in row-major order of the factors, the last one fastest, which the first two have already. The file of a car
holds all its views, but the car is the fastest factor: that is why Cars3D must be read as a whole.
"""

import contextlib
import io
import itertools
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import scipy.io
from PIL import Image

from ..errors import FDAEError
from .benchmarks import Benchmark

CARS3D_SIZE = 64  # height and width that the 128x128 renderings are resized to
BLOCK = 1024  # images read at a time
MAX_BLOCK = 16 * BLOCK  # the same where an HDF5 file's chunks are larger: 200 MB at 64x64

Row = dict[str, Any]

_READ_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, NotImplementedError),
    *(struct.error, zlib.error, zipfile.BadZipFile, tarfile.TarError, scipy.io.matlab.MatReadError),
)

_MPI3D_VALUES = {
    "object_size": ("small", "large"),
    "camera_height": ("top", "center", "bottom"),
    "background_color": ("purple", "sea green", "salmon"),
}
_MPI3D_SIMPLE_VALUES = {
    **_MPI3D_VALUES,
    "object_color": ("white", "green", "red", "blue", "brown", "olive"),
    "object_shape": ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"),
}
_VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "shapes3d": {"shape": ("cube", "cylinder", "sphere", "capsule")},
    "cars3d": {
        "elevation": tuple(str(degrees) for degrees in range(0, 24, 6)),
        "azimuth": tuple(str(degrees) for degrees in range(0, 360, 15)),
    },
    "mpi3d-toy": _MPI3D_SIMPLE_VALUES,
    "mpi3d-realistic": _MPI3D_SIMPLE_VALUES,
    "mpi3d-real": _MPI3D_SIMPLE_VALUES,
    "mpi3d-real-complex": {
        **_MPI3D_VALUES,
        "object_color": ("yellow", "green", "olive", "red"),
        "object_shape": ("coffee cup", "tennis ball", "croissant", "beer cup"),
    },
}


def read_originals(benchmark: Benchmark, source: str | Path) -> tuple[datasets.Features, Iterator[Row]]:
    """Read the original files of a benchmark.

    Args:
        benchmark: One of `BENCHMARKS`, or one of the same name and factors with other factor sizes.
        source: 3dshapes.h5 or MPI3D's .npz file; for Cars3D a folder with the .mat files somewhere in it, or the
            nips2015-analogy-data.tar.gz that they come in.

    Returns:
        The columns and, lazily, the rows: "image", for Cars3D "mask" too if the files have it, as encoded PNG; then
        the labels in factor order.

    Raises:
        FDAEError: with one line, at once or while rows are read, if files are missing, damaged or not the benchmark's.
    """
    source = Path(source)
    if not source.exists():
        raise FDAEError(f"there is no {str(source)!r}: get the original of {benchmark.name} from {benchmark.source}")
    if benchmark.name == "cars3d":
        return _read_cars(benchmark, source)
    if benchmark.name == "shapes3d":
        return _read_array(benchmark, source, _hdf5_blocks)
    if benchmark.name.startswith("mpi3d-"):
        return _read_array(benchmark, source, _npz_blocks)
    raise FDAEError(f"do not know the original files of {benchmark.name!r}")


@contextlib.contextmanager
def _naming(source: Path | str) -> Iterator[None]:
    """Turn the many errors of file readers into one line that names the file."""
    try:
        yield
    except FDAEError:
        raise
    except _READ_ERRORS as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise FDAEError(f"cannot read {source}, is it whole? ({reason})") from error


def _features(benchmark: Benchmark, pictures: tuple[str, ...], objects: list[str] | None = None) -> datasets.Features:
    """Columns of a benchmark; values of a factor that have no names, or another number of them, are numbered."""
    features: dict[str, Any] = {column: datasets.Image() for column in pictures}
    named = {**_VALUES.get(benchmark.name, {}), **({"object": objects} if objects else {})}
    for column, factor, size in zip(
        benchmark.label_columns, benchmark.factor_names, benchmark.factor_sizes, strict=True
    ):
        values = list(named.get(factor, ()))
        features[column] = datasets.ClassLabel(names=values if len(values) == size else [str(i) for i in range(size)])
    return datasets.Features(features)


def _add_labels(benchmark: Benchmark, pictures: Iterator[Row]) -> Iterator[Row]:
    """Add the labels to the pictures of all images, which are in row-major order."""
    factors = itertools.product(*(range(size) for size in benchmark.factor_sizes))
    for values, row in zip(factors, pictures, strict=True):
        yield {**row, **dict(zip(benchmark.label_columns, values, strict=True))}


def _encode(image: Image.Image) -> Row:
    """Return an image as PNG in the form that `datasets.Image` stores."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


# Shapes3D and MPI3D: one array of images in the benchmark's order


def _read_array(
    benchmark: Benchmark, source: Path, read_blocks: Callable[[Benchmark, Path], Iterator[np.ndarray]]
) -> tuple[datasets.Features, Iterator[Row]]:
    def pictures() -> Iterator[Row]:
        with _naming(source):
            for block in read_blocks(benchmark, source):
                for image in block:
                    yield {"image": _encode(Image.fromarray(image))}

    return _features(benchmark, ("image",)), _add_labels(benchmark, pictures())


def _check_array(benchmark: Benchmark, source: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Accept the images (n, H, W, 3), or with one axis for each factor in the place of n, as bytes."""
    if dtype != np.uint8 or len(shape) < 4 or shape[-1] != 3:
        raise FDAEError(f"the images in {source} must be uint8 of shape (n, height, width, 3), not {dtype} {shape}")
    if shape[:-3] not in ((benchmark.num_images,), benchmark.factor_sizes):
        found = " x ".join(f"{size:,}" for size in shape[:-3])
        raise FDAEError(f"{source} holds {found} images; {benchmark.name} has {benchmark.num_images:,}")


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
        _check_array(benchmark, source, images.shape, images.dtype)
        if images.ndim != 4 or labels.shape != (len(images), len(benchmark.factor_names)):
            raise FDAEError(f"images {images.shape} and labels {labels.shape} in {source} do not fit together")
        _check_labels(benchmark, source, labels[:])
        # Chunks are decompressed whole, so that blocks are whole layers of chunks.
        layer = min(images.chunks[0], MAX_BLOCK) if images.chunks else BLOCK
        step = layer * max(1, BLOCK // layer)
        for start in range(0, len(images), step):
            yield images[start : start + step]


def _check_labels(benchmark: Benchmark, source: Path, labels: np.ndarray) -> None:
    """Check that factor values (n, F), of any unit, enumerate all combinations in row-major order."""
    values = [np.unique(column.round(4), return_inverse=True)[1] for column in labels.T]
    expected = benchmark.rows_to_factors(np.arange(benchmark.num_images))
    wrong = np.flatnonzero((np.stack(values, axis=-1) != expected).any(axis=-1))
    if wrong.size:
        raise FDAEError(f"the labels in {source} are not in the order of {benchmark.name}, first in row {wrong[0]}")


def _npz_blocks(benchmark: Benchmark, source: Path) -> Iterator[np.ndarray]:
    """Yield the array "images" of an .npz file in blocks (b, H, W, 3). `numpy.load` would read it whole."""
    with zipfile.ZipFile(source) as archive:
        if "images.npy" not in archive.namelist():
            arrays = ", ".join(name.removesuffix(".npy") for name in archive.namelist()) or "nothing"
            raise FDAEError(f"{source} has no array 'images'; it has {arrays}")
        with archive.open("images.npy") as member:
            version = np.lib.format.read_magic(member)
            if version == (1, 0):
                shape, in_columns, dtype = np.lib.format.read_array_header_1_0(member)
            else:
                shape, in_columns, dtype = np.lib.format.read_array_header_2_0(member)
            _check_array(benchmark, source, shape, dtype)
            if in_columns:
                raise FDAEError(f"the images in {source} are in Fortran order, which cannot be read image by image")
            num_bytes = math.prod(shape[-3:])
            for start in range(0, benchmark.num_images, BLOCK):
                size = min(BLOCK, benchmark.num_images - start)
                content = member.read(size * num_bytes)
                if len(content) < size * num_bytes:
                    raise FDAEError(f"{source} is cut off after image {start + len(content) // num_bytes:,}")
                yield np.frombuffer(content, np.uint8).reshape(size, *shape[-3:])
            if member.read(1):  # at the end, zipfile compares the checksum
                raise FDAEError(f"{source} has more bytes than the images that it says it has")


# Cars3D: one file for each car


def _read_cars(benchmark: Benchmark, source: Path) -> tuple[datasets.Features, Iterator[Row]]:
    num_elevations, num_azimuths, num_cars = benchmark.factor_sizes
    with _naming(source):
        cars = {
            name: _read_views(f"{name}.mat in {source}", content, num_elevations, num_azimuths)
            for name, content in _mat_files(source)
        }
    if len(cars) != num_cars:
        raise FDAEError(f"{source} holds {len(cars):,} files car_*.mat; {benchmark.name} has {num_cars:,} cars")
    names = sorted(cars)
    has_masks = all("mask" in cars[name][0] for name in names)
    columns = ("image", "mask") if has_masks else ("image",)
    pictures = (
        {column: cars[name][view][column] for column in columns}
        for view in range(num_elevations * num_azimuths)
        for name in names
    )
    return _features(benchmark, columns, names), _add_labels(benchmark, pictures)


def _mat_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of the .mat file of each car in a folder or a tar archive, in any order."""
    if source.is_dir():
        for path in source.rglob("car_*.mat"):
            yield path.stem, path.read_bytes()
        return
    with tarfile.open(source, "r|*") as archive:  # one pass: going back would decompress it again
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.match("car_*.mat"):
                content = archive.extractfile(member)
                assert content is not None  # as it is for files
                yield path.stem, content.read()


def _read_views(name: str, content: bytes, num_elevations: int, num_azimuths: int) -> list[Row]:
    """Return the pictures of one car, azimuth fastest: images resized by Lanczos, masks where half a pixel is car."""
    with _naming(name):
        arrays = scipy.io.loadmat(io.BytesIO(content), variable_names=["im", "mask"])
        if "im" not in arrays:
            variables = [variable for variable, *_ in scipy.io.whosmat(io.BytesIO(content))]
            raise FDAEError(f"{name} has no array 'im'; it has {', '.join(variables) or 'nothing'}")
    images, masks = arrays["im"], arrays.get("mask")
    views = (num_azimuths, num_elevations)
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[2:] != (3, *views):
        expected = f"(height, width, 3, {num_azimuths}, {num_elevations})"
        raise FDAEError(f"'im' of {name} must be uint8 {expected}, not {images.dtype} {images.shape}")
    if masks is not None and masks.shape != (*images.shape[:2], *views):
        raise FDAEError(f"'mask' {masks.shape} of {name} does not fit 'im' {images.shape}")
    pictures = []
    for elevation, azimuth in itertools.product(range(num_elevations), range(num_azimuths)):
        image = Image.fromarray(np.ascontiguousarray(images[..., azimuth, elevation]))
        row = {"image": _encode(image.resize((CARS3D_SIZE, CARS3D_SIZE), Image.Resampling.LANCZOS))}
        if masks is not None:
            mask = Image.fromarray(np.where(masks[..., azimuth, elevation] != 0, np.uint8(255), np.uint8(0)))
            covered = np.asarray(mask.resize((CARS3D_SIZE, CARS3D_SIZE), Image.Resampling.BOX))
            row["mask"] = _encode(Image.fromarray(covered >= 128))
        pictures.append(row)
    return pictures
