"""MPI3D (Gondal et al., NeurIPS 2019): a robot arm holds an object; four data sets. The originals are .npz files."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import FDAEError
from . import originals
from .base import Benchmark

CITATION = """@inproceedings{gondal2019transfer,
  title = {On the Transfer of Inductive Bias from Simulation to the Real World: a New Disentanglement Dataset},
  author = {Gondal, Muhammad Waleed and Wuthrich, Manuel and Miladinovic, Djordje and Locatello, Francesco and
            Breidt, Martin and Volchkov, Valentin and Akpo, Joel and Bachem, Olivier and Scholkopf, Bernhard and
            Bauer, Stefan},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32},
  year = {2019}
}"""

_FACTORS = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
)
_SIMPLE_COLORS = ("white", "green", "red", "blue", "brown", "olive")
_SIMPLE_SHAPES = ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere")
_COMPLEX_COLORS = ("yellow", "green", "olive", "red")
_COMPLEX_SHAPES = ("coffee cup", "tennis ball", "croissant", "beer cup")


def read(benchmark: Benchmark, source: Path) -> originals.Originals:
    """Read an .npz file with "images" (n, 64, 64, 3) uint8. One block of images is in memory at a time."""
    return originals.read_array(benchmark, source, _npz_blocks)


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
            originals.check_array(benchmark, source, shape, dtype)
            if in_columns:
                raise FDAEError(f"the images in {source} are in Fortran order, which cannot be read image by image")
            num_bytes = math.prod(shape[-3:])
            for start in range(0, benchmark.num_images, originals.BLOCK):
                size = min(originals.BLOCK, benchmark.num_images - start)
                content = member.read(size * num_bytes)
                if len(content) < size * num_bytes:
                    raise FDAEError(f"{source} is cut off after image {start + len(content) // num_bytes:,}")
                yield np.frombuffer(content, np.uint8).reshape(size, *shape[-3:])
            if member.read(1):  # at the end, zipfile compares the checksum
                raise FDAEError(f"{source} has more bytes than the images that it says it has")


def _mpi3d(kind: str, file: str, colors: tuple[str, ...], shapes: tuple[str, ...]) -> Benchmark:
    return Benchmark(
        f"mpi3d-{kind}",
        _FACTORS,
        (len(colors), len(shapes), 2, 3, 3, 40, 40),
        num_concepts=6,
        source=f"https://github.com/rr-learning/disentanglement_dataset ({file})",
        title=f"MPI3D ({kind})",
        citation=CITATION,
        original_files=file,
        license="cc-by-4.0",
        value_names={
            "object_color": colors,
            "object_shape": shapes,
            "object_size": ("small", "large"),
            "camera_height": ("top", "center", "bottom"),
            "background_color": ("purple", "sea green", "salmon"),
        },
        appearance_factors=("object_color", "background_color"),
        read=read,
    )


MPI3D = (
    _mpi3d("toy", "mpi3d_toy.npz", _SIMPLE_COLORS, _SIMPLE_SHAPES),
    _mpi3d("realistic", "mpi3d_realistic.npz", _SIMPLE_COLORS, _SIMPLE_SHAPES),
    _mpi3d("real", "mpi3d_real.npz", _SIMPLE_COLORS, _SIMPLE_SHAPES),
    _mpi3d("real-complex", "real3d_complicated_shapes_ordered.npz", _COMPLEX_COLORS, _COMPLEX_SHAPES),
)
