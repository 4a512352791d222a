import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from helpers.paths import SHARED, TRAINING
from huggingface_hub import DatasetCard
from test_data_originals import CARS, MPI3D, random_images, write_cars, write_npz

from fdae_diffusers.data import BENCHMARKS, Benchmark, convert, get_benchmark, load_image_dataset
from fdae_diffusers.data.benchmarks.originals import image_and_label_features
from fdae_diffusers.data.convert import convert_dataset
from fdae_diffusers.errors import FDAEError


def test_written_folder_loads_as_a_data_set(tmp_path):
    images = random_images(MPI3D.num_images, 16, 16, 3)
    output = tmp_path / "data" / "mpi3d"
    convert_dataset(MPI3D, write_npz(tmp_path / "mpi3d.npz", images), output, rows_per_shard=10)
    assert sorted(os.listdir(output / "data")) == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert os.listdir(output.parent) == ["mpi3d"]  # nothing else is left
    dataset = load_image_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(MPI3D.read_factors(dataset), MPI3D.rows_to_factors(np.arange(len(images))))
    np.testing.assert_array_equal(np.stack(dataset["image"]), images)
    assert dataset.features["label_object_color"].names == ["yellow", "green", "olive", "red"]
    plain = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in plain.items()} == {"train": 24}


def test_card_has_what_the_hub_reads(tmp_path):
    convert_dataset(MPI3D, write_npz(tmp_path / "mpi3d.npz", random_images(24, 4, 4, 3)), tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    for text in (
        "24 images",
        "| `label_object_color` | ClassLabel, 4 | yellow, green",
        "`mpi3d.npz`",
        "@inproceedings",
    ):
        assert text in card.text


@pytest.mark.parametrize("name", [name for name, benchmark in BENCHMARKS.items() if benchmark.read is not None])
def test_every_benchmark_has_a_card(name):
    benchmark = get_benchmark(name)
    features = image_and_label_features(benchmark, tuple(benchmark.columns))
    card = convert.make_card(benchmark, features, "original.zip")
    assert f"{benchmark.num_images:,} images" in card.text
    assert benchmark.citation in card.text
    assert benchmark.terms in card.text
    for column, (kind, content) in benchmark.columns.items():
        assert f"| `{column}` | {kind} | {content} |" in card.text
    licenses = {"shapes3d": "apache-2.0", "cars3d": None, "sprites": ["cc-by-sa-3.0", "gpl-3.0"]}
    assert card.data.to_dict().get("license") == licenses.get(name.removesuffix("-published"), "cc-by-4.0")


@pytest.mark.parametrize(("rows", "name"), [(999, "n<1K"), (17_568, "10K<n<100K"), (1_036_800, "1M<n<10M")])
def test_size_categories(rows, name):
    assert convert.size_category(rows) == name


def test_existing_output_is_refused_and_kept(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "mine.txt").touch()
    with pytest.raises(FDAEError, match="out exists"):
        convert_dataset(MPI3D, write_npz(tmp_path / "mpi3d.npz", random_images(24, 4, 4, 3)), output)
    assert os.listdir(output) == ["mine.txt"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, error):
    path = write_npz(tmp_path / "mpi3d.npz", random_images(24, 4, 4, 3))
    features, rows = MPI3D.read_originals(path)

    def interrupted():
        for number, row in enumerate(rows):
            if number == 15:
                raise error
            yield row

    monkeypatch.setattr(Benchmark, "read_originals", lambda *_: (features, interrupted()))
    with pytest.raises(type(error)):
        convert_dataset(MPI3D, path, tmp_path / "out", rows_per_shard=10)
    assert os.listdir(tmp_path) == ["mpi3d.npz"]


def test_damage_after_the_last_row_is_found(tmp_path):
    array = io.BytesIO()
    np.save(array, random_images(MPI3D.num_images, 4, 4, 3))
    with zipfile.ZipFile(tmp_path / "mpi3d.npz", "w") as archive:
        archive.writestr("images.npy", array.getvalue() + b"x")
    with pytest.raises(FDAEError, match="more bytes"):
        convert_dataset(MPI3D, tmp_path / "mpi3d.npz", tmp_path / "out")
    assert os.listdir(tmp_path) == ["mpi3d.npz"]


def test_script_reports_mistakes_in_one_line(tmp_path):
    flags = ["--benchmark", "mpi3d-toy", "--source", "nowhere", "--output_dir", "out"]
    result = subprocess.run(
        [sys.executable, TRAINING / "convert_dataset.py", *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no ")
    assert result.stderr.count("\n") == 1


def test_what_has_no_original_files_is_refused(tmp_path):
    with pytest.raises(FDAEError, match="shapes3d-rendered"):
        convert_dataset(get_benchmark("shapes3d-rendered"), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layout_equals_that_of_converted_cars(tmp_path):
    reference = SHARED / "data" / "cars3d"
    if not reference.is_dir():
        pytest.skip(f"Cars3D is not at {reference}")
    write_cars(tmp_path / "cars")
    convert_dataset(CARS, tmp_path / "cars", tmp_path / "out")

    def schema_and_features(path: Path):
        schema = pyarrow.parquet.read_schema(path)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return schema.remove_metadata(), {name: feature["_type"] for name, feature in features.items()}

    ours, theirs = (next((folder / "data").glob("*.parquet")) for folder in (tmp_path / "out", reference))
    assert schema_and_features(ours) == schema_and_features(theirs)
    full = image_and_label_features(get_benchmark("cars3d"), ("image", "mask"))
    features = datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(theirs))
    for column in ("label_elevation", "label_azimuth"):
        assert full[column].names == features[column].names
