import dataclasses
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import scipy.io
from PIL import Image

from fdae_diffusers.data import BENCHMARKS, Benchmark
from fdae_diffusers.data.benchmarks import originals
from fdae_diffusers.errors import FDAEError

SHAPES = dataclasses.replace(BENCHMARKS["shapes3d"], factor_sizes=(2, 3, 2, 1, 1, 1))
MPI3D = dataclasses.replace(BENCHMARKS["mpi3d-real-complex"], factor_sizes=(4, 2, 1, 1, 3, 1, 1))
CARS = dataclasses.replace(BENCHMARKS["cars3d"], factor_sizes=(2, 3, 2))


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_npz(path: Path, images: np.ndarray, save=np.savez_compressed) -> Path:
    save(path, images=images)
    return path


def write_hdf5(path: Path, images: np.ndarray, labels: np.ndarray | None = None, **options) -> Path:
    h5py = pytest.importorskip("h5py")
    if labels is None:
        units = [0.1, 0.1, 0.1, 1 / 14, 1, 30 / 7]
        labels = SHAPES.rows_to_factors(np.arange(SHAPES.num_images)) * units - [0, 0, 0, -0.75, 0, 30]
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, **options)
        file.create_dataset("labels", data=labels)
    return path


def write_cars(folder: Path, size: int = 64, masks: bool = True) -> dict[str, np.ndarray]:
    """Write two .mat files of random images, the later name first, and return "im" of each."""
    folder.mkdir(parents=True)
    images = {}
    for seed, name in enumerate(("car_007_mesh", "car_003_mesh")):
        images[name] = random_images(size, size, 3, 3, 2, seed=seed)
        variables = {"im": images[name], "other": np.ones(3)}
        if masks:
            variables["mask"] = (images[name][:, :, 0] > 127).astype(np.uint8)
        scipy.io.savemat(folder / f"{name}.mat", variables, do_compression=True)
    return images


def read_all(benchmark: Benchmark, source: Path) -> tuple[datasets.Features, list[dict], np.ndarray]:
    features, rows = benchmark.read_originals(source)
    rows = list(rows)
    return features, rows, np.stack([decode(row["image"]) for row in rows])


def decode(picture: dict) -> np.ndarray:
    image = Image.open(io.BytesIO(picture["bytes"]))
    assert image.format == "PNG"
    return np.asarray(image)


def labels_of(benchmark: Benchmark, rows: list[dict]) -> np.ndarray:
    return np.array([[row[column] for column in benchmark.label_columns] for row in rows])


def assert_row_major(benchmark: Benchmark, rows: list[dict]):
    expected = benchmark.rows_to_factors(np.arange(benchmark.num_images))
    np.testing.assert_array_equal(labels_of(benchmark, rows), expected)


def error_of(benchmark: Benchmark, source: Path) -> str:
    with pytest.raises(FDAEError) as caught:
        list(benchmark.read_originals(source)[1])
    assert "\n" not in str(caught.value)
    return str(caught.value)


# MPI3D


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("block", [5, 8, 1024])  # with a rest, without, and all at once
def test_npz_in_blocks_equals_numpy_load(tmp_path, monkeypatch, save, block):
    monkeypatch.setattr(originals, "BLOCK", block)
    path = write_npz(tmp_path / "mpi3d.npz", random_images(MPI3D.num_images, 6, 7, 3), save)
    features, rows, images = read_all(MPI3D, path)
    np.testing.assert_array_equal(images, np.load(path)["images"])
    assert_row_major(MPI3D, rows)
    assert list(features) == ["image", *MPI3D.label_columns]


def test_npz_is_never_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(originals, "BLOCK", 4)
    sizes = []
    read = zipfile.ZipExtFile.read

    def recording_read(file, n=-1):
        sizes.append(n)
        return read(file, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", recording_read)
    images = random_images(MPI3D.num_images, 8, 8, 3)
    rows = MPI3D.read_originals(write_npz(tmp_path / "mpi3d.npz", images))[1]
    next(rows)
    assert sum(sizes) < images.nbytes / 2  # what was not asked for yet is not read
    list(rows)
    assert 0 < max(sizes) == images[:4].nbytes
    assert min(sizes) >= 0


def test_npz_with_a_header_of_version_2(tmp_path):
    images = random_images(MPI3D.num_images, 4, 4, 3)
    array = io.BytesIO()
    np.lib.format.write_array(array, images, version=(2, 0))
    with zipfile.ZipFile(tmp_path / "mpi3d.npz", "w") as archive:
        archive.writestr("images.npy", array.getvalue())
    np.testing.assert_array_equal(read_all(MPI3D, tmp_path / "mpi3d.npz")[2], images)


def test_npz_with_one_axis_for_each_factor(tmp_path):
    images = random_images(*MPI3D.factor_sizes, 4, 4, 3)
    _, rows, flat = read_all(MPI3D, write_npz(tmp_path / "mpi3d.npz", images))
    for row, image in zip(labels_of(MPI3D, rows), flat, strict=True):
        np.testing.assert_array_equal(image, images[tuple(row)])


def test_values_have_names_where_they_are_known(tmp_path):
    path = write_npz(tmp_path / "mpi3d.npz", random_images(MPI3D.num_images, 4, 4, 3))
    features, _ = MPI3D.read_originals(path)
    assert features["label_object_color"].names == ["yellow", "green", "olive", "red"]
    assert features["label_background_color"].names == ["purple", "sea green", "salmon"]
    assert features["label_object_shape"].names == ["0", "1"]  # not the four of the benchmark


@pytest.mark.parametrize("benchmark", BENCHMARKS.values())
def test_names_of_values_are_as_many_as_the_values(benchmark):
    counts = {factor: len(values) for factor, values in benchmark.value_names.items()}
    assert counts.items() <= dict(zip(benchmark.factor_names, benchmark.factor_sizes, strict=True)).items()


def test_npz_that_is_not_the_benchmark(tmp_path):
    few = write_npz(tmp_path / "few.npz", random_images(MPI3D.num_images - 1, 4, 4, 3))
    assert error_of(MPI3D, few) == f"{few} holds 23 images; mpi3d-real-complex has 24"
    floats = write_npz(tmp_path / "floats.npz", np.zeros((MPI3D.num_images, 4, 4, 3)))
    assert "must be uint8 of shape (n, height, width, 3), not float64 (24, 4, 4, 3)" in error_of(MPI3D, floats)
    columns = write_npz(tmp_path / "f.npz", np.asfortranarray(random_images(MPI3D.num_images, 4, 4, 3)))
    assert "Fortran order" in error_of(MPI3D, columns)
    np.savez(tmp_path / "keys.npz", pictures=[1], labels=[2])
    assert error_of(MPI3D, tmp_path / "keys.npz").endswith("has no array 'images'; it has pictures, labels")


def test_damaged_npz(tmp_path):
    path = write_npz(tmp_path / "mpi3d.npz", random_images(MPI3D.num_images, 8, 8, 3), np.savez)
    content = path.read_bytes()
    cut, flipped, not_a_zip = (tmp_path / f"{name}.npz" for name in ("cut", "flipped", "not_a_zip"))
    cut.write_bytes(content[:-500])
    middle = len(content) // 2
    flipped.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    not_a_zip.write_bytes(b"<html>quota exceeded</html>")
    for damaged in (cut, flipped, not_a_zip):
        assert error_of(MPI3D, damaged).startswith(f"cannot read {damaged}, is it whole? (")


def test_npz_whose_array_is_shorter_or_longer_than_its_header_says(tmp_path):
    array = io.BytesIO()
    np.save(array, random_images(MPI3D.num_images, 4, 4, 3))
    for change, message in ((-50, "is cut off after image 22"), (1, "more bytes")):
        content = array.getvalue()[:change] if change < 0 else array.getvalue() + b"x" * change
        with zipfile.ZipFile(tmp_path / "mpi3d.npz", "w") as archive:
            archive.writestr("images.npy", content)
        assert message in error_of(MPI3D, tmp_path / "mpi3d.npz")


# Shapes3D


@pytest.mark.parametrize("options", [{}, {"chunks": (5, 2, 4, 1), "compression": "gzip"}, {"chunks": (1, 4, 4, 3)}])
@pytest.mark.parametrize("block", [3, 1024])
def test_hdf5_keeps_pixels_and_order(tmp_path, monkeypatch, options, block):
    monkeypatch.setattr(originals, "BLOCK", block)
    images = random_images(SHAPES.num_images, 4, 4, 3)
    features, rows, read = read_all(SHAPES, write_hdf5(tmp_path / "3dshapes.h5", images, **options))
    np.testing.assert_array_equal(read, images)
    assert_row_major(SHAPES, rows)
    assert list(features) == ["image", *SHAPES.label_columns]


def test_hdf5_that_is_not_the_benchmark(tmp_path):
    h5py = pytest.importorskip("h5py")
    images = random_images(SHAPES.num_images, 4, 4, 3)
    few = write_hdf5(tmp_path / "few.h5", images[:-2])
    assert error_of(SHAPES, few) == f"{few} holds 10 images; shapes3d has 12"
    labels = SHAPES.rows_to_factors(np.arange(SHAPES.num_images)).astype(float)
    swapped = write_hdf5(tmp_path / "swapped.h5", images, labels[[0, 1, 3, 2, *range(4, 12)]])
    assert "not in the order of shapes3d, first in row 2" in error_of(SHAPES, swapped)
    assert "do not fit together" in error_of(SHAPES, write_hdf5(tmp_path / "cut.h5", images, labels[:, :5]))
    with h5py.File(tmp_path / "keys.h5", "w") as file:
        file["images"] = images
    assert error_of(SHAPES, tmp_path / "keys.h5").endswith("has no array 'labels'; it has images")


def test_truncated_hdf5(tmp_path):
    path = write_hdf5(tmp_path / "3dshapes.h5", random_images(SHAPES.num_images, 16, 16, 3))
    path.write_bytes(path.read_bytes()[:-2000])
    assert error_of(SHAPES, path).startswith(f"cannot read {path}, is it whole? (")
    path.write_bytes(b"not HDF5")
    assert error_of(SHAPES, path).startswith(f"cannot read {path}, is it whole? (")


def test_missing_h5py_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "3dshapes.h5").touch()
    assert "pip install" in error_of(SHAPES, tmp_path / "3dshapes.h5")


# Cars3D


def test_cars_are_in_row_major_order_and_named_by_their_sorted_files(tmp_path):
    arrays = write_cars(tmp_path / "cars")  # of the final size, so that pixels stay
    features, rows, images = read_all(CARS, tmp_path / "cars")
    names = features["label_object"].names
    assert names == ["car_003_mesh", "car_007_mesh"]
    assert list(features) == ["image", "mask", *CARS.label_columns]
    assert_row_major(CARS, rows)
    for row, image, (elevation, azimuth, car) in zip(rows, images, labels_of(CARS, rows), strict=True):
        expected = arrays[names[car]][..., azimuth, elevation]
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(decode(row["mask"]), expected[..., 0] > 127)


def test_cars_are_resized_by_lanczos_and_masks_by_half(tmp_path):
    arrays = write_cars(tmp_path / "cars", size=128)
    _, rows, images = read_all(CARS, tmp_path / "cars")
    original = arrays["car_003_mesh"][..., 0, 0]
    expected = Image.fromarray(original).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(images[0], np.asarray(expected))
    covered = (original[..., 0] > 127).reshape(64, 2, 64, 2).mean((1, 3))  # 0, 1/4, ..., 1 of each pixel
    mask = decode(rows[0]["mask"])
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, covered >= 0.5)


def test_archive_of_cars_equals_its_folder(tmp_path):
    write_cars(tmp_path / "data" / "cars")
    (tmp_path / "data" / "sprites").mkdir()
    scipy.io.savemat(tmp_path / "data" / "sprites" / "sprites_1.mat", {"im": np.ones(3)})
    with tarfile.open(tmp_path / "analogy.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "data", "data")
    packed, folder = (read_all(CARS, tmp_path / source) for source in ("analogy.tar.gz", "data"))
    assert packed[:2] == folder[:2]


def test_cars_without_masks(tmp_path):
    write_cars(tmp_path / "cars", masks=False)
    assert list(CARS.read_originals(tmp_path / "cars")[0]) == ["image", *CARS.label_columns]


def test_cars_that_are_not_the_benchmark(tmp_path):
    cars = tmp_path / "cars"
    write_cars(cars)
    path = cars / "car_007_mesh.mat"
    assert "holds 2 files car_*.mat; cars3d has 183 cars" in error_of(
        dataclasses.replace(CARS, factor_sizes=(2, 3, 183)), cars
    )
    assert "must be uint8 (height, width, 3, 4, 2), not uint8 (64, 64, 3, 3, 2)" in error_of(
        dataclasses.replace(CARS, factor_sizes=(2, 4, 2)), cars
    )
    image = random_images(64, 64, 3, 3, 2)
    scipy.io.savemat(path, {"im": image, "mask": np.ones((64, 64))})
    assert "'mask' (64, 64) of car_007_mesh.mat" in error_of(CARS, cars)
    scipy.io.savemat(path, {"images": image})
    assert error_of(CARS, cars).endswith("has no array 'im'; it has images")
    path.unlink()
    assert "holds 1 files" in error_of(CARS, cars)


def test_damaged_cars(tmp_path):
    cars = tmp_path / "cars"
    write_cars(cars)
    with tarfile.open(tmp_path / "cars.tar.gz", "w:gz") as archive:
        archive.add(cars, "cars")
    for damaged in (tmp_path / "cars.tar.gz", cars / "car_007_mesh.mat"):
        damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert error_of(CARS, tmp_path / "cars.tar.gz").startswith(f"cannot read {tmp_path / 'cars.tar.gz'}, is it whole?")
    assert error_of(CARS, cars).startswith(f"cannot read car_007_mesh.mat in {cars}, is it whole?")
    (tmp_path / "page.tar.gz").write_bytes(b"<html>not found</html>")
    assert "is it whole?" in error_of(CARS, tmp_path / "page.tar.gz")


def test_missing_source_names_where_to_get_it(tmp_path):
    for benchmark in (SHAPES, CARS, MPI3D):
        assert benchmark.source in error_of(benchmark, tmp_path / "nowhere")
