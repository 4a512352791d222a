"""Training on data that are streamed, kept in memory or partly bad."""

import logging
from types import SimpleNamespace

import datasets
import pytest
from helpers.image_files import encode, picture, write_parquet
from helpers.training import assert_same_weights, config_for

from fdae_diffusers.data import ImageStream, load_image_stream
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import TrainingConfig, batches, train
from fdae_diffusers.training.batches import StreamLoader


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """`datasets` waits for five seconds after an epoch of parquet, to be sure that its threads are gone."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture
def parquet(tmp_path) -> str:
    """Forty images in four files; the first file has ten bad ones at its end."""
    images = [encode(picture(seed)) for seed in range(40)]
    images[:10] = [*images[:4], *[b"bad"] * 5, None]
    return write_parquet(tmp_path / "repo", [images[start : start + 10] for start in range(0, 40, 10)])


def streaming_config(output_dir, source: str, **settings) -> TrainingConfig:
    defaults = {"dataset_name": source, "streaming": True, "on_bad_image": "skip", "max_train_samples": None}
    return config_for(output_dir, **{**defaults, "shuffle_buffer_size": 12, "train_batch_size": 4, **settings})


# Forty images in batches of 4 are ten batches an epoch: step 11 stops within the second.
@pytest.mark.parametrize(("stop", "workers", "accumulation"), [(3, 0, 1), (11, 0, 1), (3, 2, 2), (11, 2, 1)])
def test_resumed_stream_equals_uninterrupted_run(tmp_path, parquet, stop, workers, accumulation):
    settings = {
        "max_train_steps": 13,
        "dataloader_num_workers": workers,
        "gradient_accumulation_steps": accumulation,
    }
    train(streaming_config(tmp_path / "whole", parquet, **settings, checkpointing_steps=stop))
    settings["resume_from_checkpoint"] = str(tmp_path / "whole" / f"checkpoint-{stop}")
    train(streaming_config(tmp_path / "resumed", parquet, **settings))
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_stream_does_not_resume_with_other_workers(tmp_path, parquet):
    train(streaming_config(tmp_path / "run", parquet, checkpointing_steps=3))
    settings = {"dataloader_num_workers": 1, "resume_from_checkpoint": "latest"}
    with pytest.raises(
        FDAEError, match=r"^cannot resume the stream.* 1 processes with dataloader_num_workers=0; resume"
    ):
        train(streaming_config(tmp_path / "run", parquet, **settings))


def test_each_process_goes_on_from_its_own_position(parquet, monkeypatch):
    """Of two processes, the states of which are gathered."""

    def loader_of(process: int) -> StreamLoader:
        stream = load_image_stream(parquet)
        images = ImageStream(stream, 8, 2, "skip", shuffle_buffer_size=6, process_index=process, num_processes=2)
        return StreamLoader(images, SimpleNamespace(device="cpu", num_processes=2, process_index=process))

    positions, rests = [], []
    for process, num_batches in enumerate((3, 14)):
        loader = loader_of(process)
        read = iter(loader)
        for _ in range(num_batches):
            next(read)
        positions.append((loader.epoch, loader.num_batches))
        rests.append([next(read)["pixel_values"] for _ in range(12)])
    monkeypatch.setattr(batches, "gather_object", lambda objects: positions)
    state = loader.state_dict()
    assert positions[0] != positions[1]
    for process, rest in enumerate(rests):
        loader = loader_of(process)
        loader.load_state_dict(state)
        assert all((batch["pixel_values"] == other).all() for batch, other in zip(loader, rest, strict=False))


def test_stream_smaller_than_a_batch_is_refused(tmp_path, parquet):
    with pytest.raises(FDAEError, match="fewer images than a batch of 41 for each of 1 processes"):
        train(streaming_config(tmp_path / "run", parquet, train_batch_size=41))


@pytest.mark.parametrize("settings", [{}, {"streaming": True}, {"cache_images": True}])
def test_nothing_but_bad_images_is_refused(tmp_path, settings):
    source = write_parquet(tmp_path / "repo", [[b"bad"] * 4, [None] * 4])
    settings = {"dataset_name": source, "on_bad_image": "skip", "train_batch_size": 2, **settings}
    with pytest.raises(FDAEError, match="none of the images can be read"):
        train(config_for(tmp_path / "run", **settings))


@pytest.mark.parametrize("settings", [{}, {"streaming": True}, {"cache_images": True}, {"dataloader_num_workers": 1}])
def test_a_bad_image_is_one_line(tmp_path, parquet, settings):
    settings = {"dataset_name": parquet, "max_train_samples": None, "max_train_steps": 30, **settings}
    with pytest.raises(FDAEError, match=r"cannot read .*on_bad_image=skip") as caught:
        train(config_for(tmp_path / "run", **settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"dataloader_num_workers": 1}, {"cache_images": True}, {"streaming": True}])
def test_skipped_images_are_counted_at_the_end(tmp_path, parquet, settings, caplog):
    settings = {
        "dataset_name": parquet,
        "max_train_samples": None,
        "on_bad_image": "skip",
        "train_batch_size": 4,
        "max_train_steps": 10,
        "num_validation_images": 1,
        **settings,
    }
    with caplog.at_level(logging.WARNING):
        train(config_for(tmp_path / "run", **settings))
    last = caplog.records[-1].message
    assert "skipped" in last if "streaming" in settings else last == "6 of 40 images cannot be read and were skipped"


def test_images_in_memory_give_the_same_weights(tmp_path, parquet):
    settings = {"dataset_name": parquet, "max_train_samples": 30, "on_bad_image": "skip"}
    train(config_for(tmp_path / "plain", **settings))
    train(config_for(tmp_path / "cached", **settings, cache_images=True, dataloader_num_workers=1))
    assert_same_weights(tmp_path / "plain", tmp_path / "cached")


def test_resuming_with_images_in_memory_equals_uninterrupted_run(tmp_path):
    train(config_for(tmp_path / "whole", checkpointing_steps=3))
    settings = {"resume_from_checkpoint": str(tmp_path / "whole" / "checkpoint-3"), "cache_images": True}
    train(config_for(tmp_path / "resumed", **settings))
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_streams_are_not_kept_in_memory(tmp_path):
    with pytest.raises(FDAEError, match="streaming or cache_images"):
        config_for(tmp_path, streaming=True, cache_images=True)


def test_first_images_of_a_stream_are_not_shared_by_workers(tmp_path, parquet):
    with pytest.raises(FDAEError, match="leave max_train_samples out"):
        train(streaming_config(tmp_path, parquet, max_train_samples=20, dataloader_num_workers=2))
