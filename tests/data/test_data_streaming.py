import itertools

import datasets
import pytest
import torch
from helpers.image_files import BAD, grey, write_parquet
from torch.utils.data import DataLoader

from fdae_diffusers.data import RENDERED_SHAPES3D, ImageDataset, ImageStream, load_image_dataset, load_image_stream
from fdae_diffusers.errors import FDAEError

NUM_IMAGES = 60


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """`datasets` waits for five seconds after an epoch of parquet, to be sure that its threads are gone."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture
def parquet(tmp_path) -> str:
    """Sixty images, of the grey levels 0..59, in six files."""
    levels = range(NUM_IMAGES)
    return write_parquet(tmp_path / "repo", [[grey(level) for level in levels[i : i + 10]] for i in range(0, 60, 10)])


@pytest.fixture
def folder(tmp_path) -> str:
    """Twelve files 00.png ... 11.png of the grey levels 0..11, and what else people keep in such folders."""
    images = tmp_path / "images"
    images.mkdir()
    for level in range(12):
        (images / f"{level:02d}.png").write_bytes(grey(level))
    for name in ("notes.txt", ".DS_Store", "Thumbs.db"):
        (images / name).write_text("no image")
    return str(images)


def stream_of(source: str, batch_size: int = 5, max_samples: int | None = None, **settings) -> ImageStream:
    name = "train_data_dir" if source.endswith("images") else "dataset_name"
    stream = load_image_stream(**{name: source}, max_samples=max_samples)
    return ImageStream(stream, size=8, batch_size=batch_size, **{"shuffle_buffer_size": 20, **settings})


def levels(stream: ImageStream, epoch: int = 0, workers: int = 0) -> list[list[int] | None]:
    """Grey levels of the batches of an epoch."""
    stream.set_epoch(epoch)
    batches = DataLoader(stream, batch_size=None, num_workers=workers)
    return [
        None if batch is None else ((batch["pixel_values"].mean((1, 2, 3)) + 1) * 127.5).round().int().tolist()
        for batch in batches
    ]


def flat(batches) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def test_batches_hold_pixel_values(parquet):
    stream = stream_of(parquet)
    (batch,) = itertools.islice(stream, 1)
    assert batch["pixel_values"].shape == (5, 3, 8, 8)
    assert batch["pixel_values"].dtype == torch.float32
    rows = [round(float((image.mean() + 1) * 127.5)) for image in batch["pixel_values"]]
    images = ImageDataset(load_image_dataset(parquet), size=8)
    assert torch.equal(batch["pixel_values"], torch.stack([images[row]["pixel_values"] for row in rows]))


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (4, 0), (1, 2), (2, 2)])  # four do not divide the files
def test_processes_and_workers_read_each_image_once(parquet, processes, workers):
    read = []
    for process in range(processes):
        settings = {"process_index": process, "num_processes": processes, "num_workers": workers}
        read += flat(levels(stream_of(parquet, batch_size=1, **settings), workers=workers))
    assert sorted(read) == list(range(NUM_IMAGES))


def test_more_workers_than_files_read_each_image_once(tmp_path):
    name = write_parquet(tmp_path / "repo", [[grey(level) for level in range(12)]])
    read = levels(stream_of(name, batch_size=2, num_workers=2), workers=2)
    assert sorted(flat(read)) == list(range(12))
    assert read == levels(stream_of(name, batch_size=2))  # and the order is that of one


@pytest.mark.parametrize("workers", [0, 2])
def test_image_folders_are_streams_too(folder, workers):
    read = levels(stream_of(folder, batch_size=2), workers=workers)
    assert sorted(flat(read)) == list(range(12))
    assert read == levels(stream_of(folder, batch_size=2))  # files of a folder are one shard: workers keep the order


def test_epochs_are_shuffled_differently_and_by_the_seed(parquet):
    first = [levels(stream_of(parquet), epoch) for epoch in (0, 1)]
    assert sorted(flat(first[0])) == sorted(flat(first[1])) == list(range(NUM_IMAGES))
    assert flat(first[0]) != list(range(NUM_IMAGES))
    assert first[0] != first[1]
    assert [levels(stream_of(parquet), epoch) for epoch in (0, 1)] == first
    assert levels(stream_of(parquet, seed=1)) != first[0]
    batch = first[0][0]
    assert max(batch) - min(batch) > 20  # images of several files


@pytest.mark.parametrize(("workers", "passed"), [(0, 1), (0, 12), (2, 4), (2, 7)])
def test_batches_that_are_passed_over_leave_the_others_as_they_are(parquet, workers, passed):
    stream = stream_of(parquet)
    whole = levels(stream, 1, workers)
    stream.num_passed = passed
    assert levels(stream, 1, workers) == [None] * passed + whole[passed:]


def test_incomplete_batches_are_dropped(parquet):
    assert [len(batch) for batch in levels(stream_of(parquet, batch_size=8))] == [8] * 7
    assert levels(stream_of(parquet, batch_size=61)) == []


def test_the_first_images_are_taken(parquet):
    stream = stream_of(parquet, max_samples=15)
    assert sorted(flat(levels(stream))) == list(range(15))
    assert levels(stream, 1) != levels(stream, 0)


def test_preview_is_always_the_same(parquet):
    stream = stream_of(parquet)
    preview = stream.first_values(3)
    assert preview.shape == (3, 3, 8, 8)
    levels(stream, epoch=2)
    assert torch.equal(stream.first_values(3), preview)
    assert len(stream.first_values(100)) == NUM_IMAGES


def test_bad_images_are_replaced_in_their_batch(tmp_path):
    # With a buffer of one image the order is that of the file.
    images = [grey(0), BAD["text"], None, grey(3), *[None] * 4, grey(8), grey(9), grey(10), BAD["zero bytes"]]
    name = write_parquet(tmp_path / "repo", [images])
    stream = stream_of(name, batch_size=4, on_bad_image="skip", shuffle_buffer_size=1)
    assert levels(stream) == [[0, 3, 3, 3], None, [8, 9, 10, 8]]
    assert stream.num_skipped == 7
    assert levels(stream, workers=2) == [[0, 3, 3, 3], None, [8, 9, 10, 8]]
    assert stream.num_skipped == 14  # workers count where the main process sees it
    with pytest.raises(FDAEError, match="cannot read an image of the stream"):
        levels(stream_of(name, batch_size=4))


def test_bad_file_is_named(folder, tmp_path):
    (tmp_path / "images" / "03.png").write_bytes(b"")
    with pytest.raises(FDAEError, match=r"cannot read an image of the stream \(.*03\.png\): it is empty"):
        levels(stream_of(folder))


def test_a_broken_file_of_the_stream_is_one_line(parquet, tmp_path):
    stream = stream_of(parquet)
    path = next((tmp_path / "repo" / "data").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    for read in (lambda: levels(stream), lambda: stream.first_values(NUM_IMAGES)):
        with pytest.raises(FDAEError, match="cannot read on in the stream: ") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_no_readable_image_to_preview_is_an_error(tmp_path):
    name = write_parquet(tmp_path / "repo", [[b"", None]])
    with pytest.raises(FDAEError, match="none of the images"):
        stream_of(name, on_bad_image="skip").first_values(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset_name": RENDERED_SHAPES3D}, "leave streaming out"),
        ({"dataset_name": "PARQUET", "split": "train[:10]"}, "max_train_samples instead of split='train"),
        ({"dataset_name": "PARQUET", "split": "nope"}, "nope"),
        ({"dataset_name": "PARQUET", "image_column": "nope"}, "no column 'nope'; the columns are image"),
        ({"dataset_name": "/nowhere/at/all"}, "cannot load the data set"),
        ({"train_data_dir": "/nowhere/at/all"}, "there is no folder"),
        ({}, "either dataset_name or train_data_dir"),
    ],
)
def test_unusable_sources_are_one_line(parquet, arguments, message):
    arguments = {name: parquet if value == "PARQUET" else value for name, value in arguments.items()}
    with pytest.raises(FDAEError, match=message) as caught:
        load_image_stream(**arguments)
    assert "\n" not in str(caught.value)
