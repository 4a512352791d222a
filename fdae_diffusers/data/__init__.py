"""Data sets: benchmarks with known factors, Shapes3D rendered again, and images from anywhere."""

from .benchmarks import BENCHMARKS, RENDERED_SHAPES3D, Benchmark, get_benchmark
from .cache import CachedImages
from .images import ImageDataset, find_image_column, load_benchmark, load_image_dataset, sample_rows
from .shapes3d_renderer import Shapes3DRenderer, rendered_shapes3d
from .streaming import ImageStream, load_image_stream

__all__ = [
    "BENCHMARKS",
    "RENDERED_SHAPES3D",
    "Benchmark",
    "CachedImages",
    "ImageDataset",
    "ImageStream",
    "Shapes3DRenderer",
    "find_image_column",
    "get_benchmark",
    "load_benchmark",
    "load_image_dataset",
    "load_image_stream",
    "rendered_shapes3d",
    "sample_rows",
]
