import logging
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from helpers.fake_hub import FakeHub
from helpers.paths import SHARED
from PIL import Image
from torch.utils.data import DataLoader

from fdae_diffusers.data import (
    BENCHMARKS,
    RENDERED_SHAPES3D,
    ImageDataset,
    Shapes3DRenderer,
    find_image_column,
    load_benchmark,
    load_image_dataset,
    load_image_stream,
)
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.image_processing import to_pixel_values

CARS = SHARED / "data" / "cars3d"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four image files: 0.png to 3.png, of which the value of all pixels is 10 times the number."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(images / f"{number}.png")
    return images


def levels(dataset: ImageDataset, rows: list[int]) -> list[int]:
    """Return the grey levels of one-coloured images."""
    values = torch.stack([item["pixel_values"] for item in dataset.__getitems__(rows)])
    assert values.shape == (len(rows), 3, dataset.size, dataset.size)
    return ((values.mean((1, 2, 3)) + 1) * 127.5).round().int().tolist()


def test_image_folder_loads(folder, tmp_path):
    dataset = load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    images = ImageDataset(dataset, size=8)
    assert len(images) == 4
    assert levels(images, [3, 0, 2]) == [30, 0, 20]
    assert images[1]["pixel_values"].dtype == torch.float32


def test_parquet_folder_laid_out_like_a_hub_repository_loads(tmp_path):
    pictures = [Image.new("L", (12, 8), level) for level in (7, 9)]
    features = datasets.Features({"label": datasets.Value("int64"), "picture": datasets.Image()})
    dataset = datasets.Dataset.from_dict({"label": [0, 1], "picture": pictures}, features=features)
    (tmp_path / "repo" / "data").mkdir(parents=True)
    dataset.to_parquet(str(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet"))
    loaded = load_image_dataset(str(tmp_path / "repo"), cache_dir=str(tmp_path / "cache"))
    assert find_image_column(loaded) == "picture"
    assert levels(ImageDataset(loaded, size=4), [1, 0]) == [9, 7]


def test_real_cars_load(tmp_path):
    if not CARS.is_dir():
        pytest.skip(f"Cars3D is not at {CARS}")
    cars = load_image_dataset(str(CARS), cache_dir=str(tmp_path), max_samples=50)
    assert find_image_column(cars) == "image"  # and not "mask"
    factors = BENCHMARKS["cars3d"].read_factors(cars)
    assert factors.shape == (50, 3)
    values = ImageDataset(cars, size=64)[7]["pixel_values"]
    torch.testing.assert_close(values, to_pixel_values(cars[7]["image"], 64)[0])
    again = load_image_dataset(str(CARS), cache_dir=str(tmp_path), max_samples=50)
    np.testing.assert_array_equal(BENCHMARKS["cars3d"].read_factors(again), factors)
    assert len({tuple(row) for row in factors[:, :2]}) > 20  # not the first fifty cars of one view


def test_rendered_shapes3d_is_built_in():
    dataset = load_image_dataset(RENDERED_SHAPES3D, size=16, max_samples=30)
    rows = BENCHMARKS["shapes3d"].factors_to_rows(BENCHMARKS["shapes3d"].read_factors(dataset))
    assert len(rows) == 30
    values = torch.stack([item["pixel_values"] for item in ImageDataset(dataset, size=16).__getitems__([4, 2])])
    torch.testing.assert_close(values, to_pixel_values(Shapes3DRenderer(16).render(rows[[4, 2]]), 16))


def test_a_batch_is_one_access():
    accesses = []

    def make_images(batch):
        accesses.append(len(batch["level"]))
        return {"picture": [Image.new("L", (4, 4), level) for level in batch["level"]]}

    dataset = datasets.Dataset.from_dict({"level": list(range(10))}).with_transform(make_images)
    images = ImageDataset(dataset, size=4)
    accesses.clear()
    batch = next(iter(DataLoader(images, batch_size=6)))
    assert batch["pixel_values"].shape == (6, 3, 4, 4)
    assert accesses == [6]


def test_workers_read_what_the_main_process_reads(folder, tmp_path):
    images = ImageDataset(load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache")), size=8)
    batches = [next(iter(DataLoader(images, batch_size=4, num_workers=workers))) for workers in (0, 1)]
    torch.testing.assert_close(batches[0]["pixel_values"], batches[1]["pixel_values"])


def test_corrupt_image_is_named(folder, tmp_path):
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(content[: len(content) // 2])
    images = ImageDataset(load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache")), size=8)
    assert levels(images, [0, 1, 3]) == [0, 10, 30]
    with pytest.raises(FDAEError, match=r"row 2 \(.*2\.png\)") as caught:
        images[2]
    assert "\n" not in str(caught.value)


def test_corrupt_images_are_skipped_and_named_once(folder, tmp_path, caplog):
    for number in (0, 3):
        (folder / f"{number}.png").write_bytes(b"not an image")
    dataset = load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    images = ImageDataset(dataset, size=8, on_bad_image="skip")
    with caplog.at_level(logging.WARNING):
        assert levels(images, [0, 1, 2, 3]) == [10, 10, 20, 10]  # the next good one, from the end to the beginning
        assert levels(images, [3]) == [10]
    assert images.bad_rows == {0, 3}
    assert [("0.png" in record.message, "3.png" in record.message) for record in caplog.records] == [
        (True, False),
        (False, True),
    ]


def test_no_readable_image_is_an_error(folder, tmp_path, caplog):
    for path in folder.iterdir():
        path.write_bytes(b"not an image")
    dataset = load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(FDAEError, match="none of the images"):
        ImageDataset(dataset, size=8, on_bad_image="skip")[1]


def test_one_of_several_image_columns_must_be_named():
    picture = Image.new("L", (4, 4), 9)
    dataset = datasets.Dataset.from_dict({"left": [picture], "label": [1], "right": [picture]})
    with pytest.raises(FDAEError, match="the columns left, right hold images: name one of them as image_column"):
        find_image_column(dataset)
    assert find_image_column(dataset, "right") == "right"


def test_splits_can_be_sliced(folder, tmp_path):
    dataset = load_image_dataset(train_data_dir=str(folder), split="train[1:3]", cache_dir=str(tmp_path / "cache"))
    assert levels(ImageDataset(dataset, size=8), [0, 1]) == [10, 20]


def test_other_files_in_a_folder_are_left_alone(folder, tmp_path):
    for name in ("notes.txt", ".DS_Store", "Thumbs.db", "table.csv"):
        (folder / name).write_text("no image")
    assert len(load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache"))) == 4


def test_rows_known_to_be_bad_are_not_read_again(folder, tmp_path):
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(b"")
    dataset = load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    images = ImageDataset(dataset, size=8, on_bad_image="skip")
    assert levels(images, [1, 1, 2]) == [30, 30, 30]
    assert images.reader.num_skipped == images.num_skipped == 2


def test_bad_rows_of_workers_are_known_afterwards(folder, tmp_path):
    (folder / "2.png").write_bytes(b"")
    dataset = load_image_dataset(train_data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    images = ImageDataset(dataset, size=8, on_bad_image="skip")
    list(DataLoader(images, num_workers=1))
    assert images.bad_rows == {2}


@pytest.mark.parametrize("streaming", [False, True])
def test_data_set_that_is_not_on_the_hub_is_one_line(tmp_path, monkeypatch, streaming):
    load = load_image_stream if streaming else load_image_dataset
    with FakeHub() as hub:
        hub.connect(monkeypatch, tmp_path / "hub")
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        with pytest.raises(FDAEError, match=r"cannot load the data set 'org/nothing': .*doesn't exist") as caught:
            load("org/nothing", cache_dir=str(tmp_path / "cache"))
        assert any("/datasets/org/nothing" in request for request in hub.requests)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_data_set_asked_for_offline_is_one_line(tmp_path, monkeypatch, streaming):
    load = load_image_stream if streaming else load_image_dataset
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(FDAEError, match=r"cannot load the data set 'org/nothing': .*") as caught:
        load("org/nothing", cache_dir=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(FDAEError, match="no folder"):
        load_image_dataset(train_data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(FDAEError, match="nowhere"):
        load_image_dataset(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    for source in ({"train_data_dir": str(tmp_path / "empty")}, {"dataset_name": str(tmp_path / "empty")}):
        with pytest.raises(FDAEError, match="doesn't contain any data files"):
            load_image_dataset(**source)


def test_data_set_without_images_or_rows(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FDAEError, match="none of the columns holds images; the columns are a, b"):
        load_image_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(FDAEError, match="empty"):
        find_image_column(datasets.Dataset.from_dict({"image": []}))


def test_unknown_image_column_and_split(folder, tmp_path):
    source = {"train_data_dir": str(folder), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(FDAEError, match="no column 'photo'; the columns are image"):
        load_image_dataset(**source, image_column="photo")
    with pytest.raises(FDAEError, match='split "test"'):
        load_image_dataset(**source, split="test")


def test_column_without_images():
    dataset = load_image_dataset(RENDERED_SHAPES3D, size=8)
    with pytest.raises(FDAEError, match="'label_scale' has no images"):
        find_image_column(dataset, "label_scale")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'org/name' on the Hub\nRetry"),
        datasets.exceptions.DatasetNotFoundError("Dataset 'org/name' doesn't exist on the Hub or cannot be accessed."),
        RuntimeError("Dataset scripts are no longer supported, but found name.py"),
    ],
)
def test_unreachable_and_unknown_repositories_are_one_line(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(FDAEError, match="cannot load the data set 'org/name': ") as caught:
        load_image_dataset("org/name")
    assert "\n" not in str(caught.value)


def test_one_source_must_be_named():
    with pytest.raises(FDAEError, match="either"):
        load_image_dataset()
    with pytest.raises(FDAEError, match="either"):
        load_image_dataset("name", "folder")


def test_unknown_way_with_bad_images():
    with pytest.raises(ValueError, match="ignore"):
        ImageDataset(load_image_dataset(RENDERED_SHAPES3D, size=8), size=8, on_bad_image="ignore")


@pytest.mark.parametrize("settings", [{"split": "train[:80%]"}, {"split": "test"}, {"dataset_config_name": "small"}])
def test_parts_of_rendered_images_are_refused_and_not_all_of_them(settings):
    with pytest.raises(FDAEError, match="shapes3d-rendered has the split train alone"):
        load_image_dataset(RENDERED_SHAPES3D, size=8, **settings)


@pytest.mark.parametrize("names", [(RENDERED_SHAPES3D, "data/mine"), ("shapes3d", RENDERED_SHAPES3D)])
def test_rendered_images_are_not_taken_for_others(names):
    with pytest.raises(FDAEError, match="shapes3d-rendered is a benchmark of its own"):
        load_benchmark(*names)


def test_no_images_are_refused():
    with pytest.raises(FDAEError, match="max_samples must be at least 1, not -1"):
        load_image_dataset(RENDERED_SHAPES3D, size=8, max_samples=-1)
