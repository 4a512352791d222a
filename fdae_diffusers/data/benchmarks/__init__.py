"""The disentanglement benchmarks, one module each. To add one: its module, and its line here."""

from ...errors import FDAEError
from .base import Benchmark
from .cars3d import CARS3D
from .mpi3d import MPI3D
from .shapes3d import SHAPES3D
from .shapes3d_rendered import RENDERED_SHAPES3D, SHAPES3D_RENDERED, rendered_shapes3d
from .sprites import SPRITES

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (SHAPES3D_RENDERED, SHAPES3D, CARS3D, *MPI3D, *SPRITES)
}


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a name in `BENCHMARKS`.

    Raises:
        FDAEError: for another name; it lists those there are.
    """
    if name not in BENCHMARKS:
        raise FDAEError(f"unknown benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


__all__ = ["BENCHMARKS", "RENDERED_SHAPES3D", "SHAPES3D", "Benchmark", "get_benchmark", "rendered_shapes3d"]
