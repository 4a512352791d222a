import datasets
import numpy as np
import pytest

from fdae_diffusers.data import BENCHMARKS, get_benchmark
from fdae_diffusers.errors import FDAEError


@pytest.mark.parametrize(
    ("name", "num_images"),
    [
        ("shapes3d", 480_000),
        ("cars3d", 17_568),
        ("mpi3d-toy", 1_036_800),
        ("mpi3d-realistic", 1_036_800),
        ("mpi3d-real", 1_036_800),
        ("mpi3d-real-complex", 460_800),
    ],
)
def test_number_of_images(name, num_images):
    assert get_benchmark(name).num_images == num_images


def test_every_factor_has_a_name_and_a_size():
    for benchmark in BENCHMARKS.values():
        assert len(benchmark.factor_names) == len(benchmark.factor_sizes)


def test_factors_of_appearance_are_some_of_the_factors():
    for benchmark in BENCHMARKS.values():
        assert set() < set(benchmark.appearance_factors) < set(benchmark.factor_names), benchmark.name
    assert get_benchmark("sprites").appearance_factors == ("body", "bottomwear", "topwear", "hair", "shoes")


def test_columns_of_parts_are_told_with_their_names():
    with_parts = {name for name, benchmark in BENCHMARKS.items() if benchmark.part_column is not None}
    assert with_parts == {"cars3d", "sprites", "sprites-published"}
    for name in with_parts:
        assert get_benchmark(name).part_column in get_benchmark(name).columns
        assert get_benchmark(name).part_names[0] == "background"


def test_unknown_benchmark_names_the_known_ones():
    with pytest.raises(FDAEError, match="mpi3d-toy"):
        get_benchmark("mpi3d")


@pytest.mark.parametrize(
    ("row", "factors"), [(33_042, (0, 6, 8, 6, 2, 12)), (225_426, (4, 6, 9, 5, 0, 6)), (479_999, (9, 9, 9, 7, 3, 14))]
)
def test_known_rows_of_shapes3d(row, factors):
    assert tuple(BENCHMARKS["shapes3d"].rows_to_factors(row)) == factors
    assert BENCHMARKS["shapes3d"].factors_to_rows(factors) == row


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_and_factors_round_trip(name):
    benchmark = BENCHMARKS[name]
    rows = np.random.default_rng(0).integers(0, benchmark.num_images, (5, 7))
    factors = benchmark.rows_to_factors(rows)
    assert factors.shape == (5, 7, len(benchmark.factor_sizes))
    np.testing.assert_array_equal(benchmark.factors_to_rows(factors), rows)


def test_rows_outside_the_data_set_are_an_error():
    with pytest.raises(ValueError, match="out of bounds"):
        BENCHMARKS["cars3d"].rows_to_factors([17_568])
    with pytest.raises(ValueError, match="invalid"):
        BENCHMARKS["cars3d"].factors_to_rows([0, 24, 0])


def cars(**labels: list[int]) -> datasets.Dataset:
    """A data set with the columns of Cars3D, not in factor order."""
    columns = {"label_object": [182, 0], "label_elevation": [3, 1], "image": [b"", b""], "label_azimuth": [23, 2]}
    return datasets.Dataset.from_dict({**columns, **labels})


def test_factors_are_read_in_factor_order():
    factors = BENCHMARKS["cars3d"].read_factors(cars())
    assert factors.dtype == np.int64
    np.testing.assert_array_equal(factors, [[3, 23, 182], [1, 2, 0]])


def test_factors_follow_a_selection():
    np.testing.assert_array_equal(BENCHMARKS["cars3d"].read_factors(cars().select([1])), [[1, 2, 0]])


def test_missing_and_wrong_labels_are_named():
    with pytest.raises(FDAEError, match="label_azimuth; the data set has label_object, label_elevation, image"):
        BENCHMARKS["cars3d"].read_factors(cars().remove_columns("label_azimuth"))
    with pytest.raises(FDAEError, match=r"label_azimuth .* 0\.\.23; got 1\.\.24"):
        BENCHMARKS["cars3d"].read_factors(cars(label_azimuth=[24, 1]))
