"""Data sets: benchmarks with known factors, Shapes3D rendered again, and images from anywhere."""

from .benchmarks import BENCHMARKS, RENDERED_SHAPES3D, Benchmark, get_benchmark, rendered_shapes3d
from .cache import CachedImages
from .images import ImageDataset, find_image_column, load_benchmark, load_image_dataset, makes_images, sample_rows
from .shapes3d_renderer import Shapes3DRenderer
from .sprites_renderer import SpritesRenderer
from .streaming import ImageStream, load_image_stream

__all__ = [
    "BENCHMARKS",
    "RENDERED_SHAPES3D",
    "Benchmark",
    "CachedImages",
    "ImageDataset",
    "ImageStream",
    "Shapes3DRenderer",
    "SpritesRenderer",
    "find_image_column",
    "get_benchmark",
    "load_benchmark",
    "load_image_dataset",
    "load_image_stream",
    "makes_images",
    "rendered_shapes3d",
    "sample_rows",
]
