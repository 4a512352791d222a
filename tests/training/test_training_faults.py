"""What happens when a run is interrupted or its machine fails: docs/training.md has the table."""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch
from helpers.processes import end, start
from helpers.training import assert_same_weights, config_for, train_here
from safetensors.torch import load_file

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError, RunInterrupted
from fdae_diffusers.hub.files import MODEL_FILES
from fdae_diffusers.training import stop_signal as interruption
from fdae_diffusers.training import train
from fdae_diffusers.training.checkpoints import list_checkpoints
from fdae_diffusers.training.faults import explained_faults, whole_or_error
from fdae_diffusers.training.trainer import Trainer
from fdae_diffusers.utils.arguments import run_script

KILLS = int(os.environ.get("FDAE_KILLS", "3"))


def at_step(monkeypatch, step, action):
    """Call an action with the trainer in the middle of a step, counted from one."""
    train_step = Trainer._train_step

    def with_action(trainer, batches):
        train_step(trainer, batches)
        if trainer.step == step - 1:
            action(trainer)

    monkeypatch.setattr(Trainer, "_train_step", with_action)


def assert_whole(checkpoint):
    """A checkpoint whose weights are there and are numbers, and no sign of another one that was begun."""
    state = load_file(checkpoint / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in state.values())
    assert not list(checkpoint.parent.glob("*.unfinished"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on_later(tmp_path, monkeypatch, number):
    settings = {"dataloader_num_workers": 1, "use_ema": True}
    train(config_for(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda trainer: os.kill(os.getpid(), number))
        with pytest.raises(RunInterrupted, match=r"step 4.*--resume_from_checkpoint latest") as stop:
            train(config_for(tmp_path / "stopped", **settings))  # checkpointing_steps=0
    assert stop.value.exit_status == 128 + number
    assert [path.name for path in list_checkpoints(tmp_path / "stopped")] == ["checkpoint-4"]
    train(config_for(tmp_path / "stopped", **settings, resume_from_checkpoint="latest"))
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_a_script_says_how_to_go_on_and_exits_with_the_signals_status(capsys):
    def stop():
        raise RunInterrupted(signal.SIGTERM, "how to go on")

    with pytest.raises(SystemExit) as exit:
        run_script(stop)
    assert exit.value.code == 143
    assert capsys.readouterr().err == "how to go on\n"


@pytest.fixture
def heeds_ctrl_c():
    """Undo what a shell does to background jobs: they start with SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_a_second_ctrl_c_stops_at_once_and_the_handlers_are_put_back(tmp_path, monkeypatch, heeds_ctrl_c):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(interruption, "REPEATED_WITHIN_SECONDS", -1)

    def twice(trainer):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(monkeypatch, 2, twice)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(config_for(tmp_path))
    assert not isinstance(stop.value, RunInterrupted)
    assert not list_checkpoints(tmp_path)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_one_ctrl_c_that_arrives_twice_counts_once(tmp_path, monkeypatch):
    def twice(trainer):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(monkeypatch, 2, twice)
    with pytest.raises(RunInterrupted):
        train(config_for(tmp_path))


def train_with_a_killed_reader(config, told):
    def kill_workers(trainer):
        for reader in multiprocessing.active_children():
            reader.kill()

    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 2, kill_workers)
        try:
            train(config)
        except FDAEError as error:
            told.write_text(str(error))


def test_a_killed_reader_of_images_ends_the_run_in_one_line(tmp_path, image_folder):
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "dataloader_num_workers": 1}
    settings |= {"train_batch_size": 2, "checkpointing_steps": 1, "max_train_steps": 50}
    # In a process of its own, because torch keeps looking for the killed one.
    end([start(train_with_a_killed_reader, config_for(tmp_path / "run", **settings), tmp_path / "told")])
    told = (tmp_path / "told").read_text()
    assert "a process that reads images was killed" in told
    assert "\n" not in told
    assert_whole(list_checkpoints(tmp_path / "run")[-1])


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_reader_that_is_killed_while_it_hands_over_a_batch_is_told_alike(error):
    with pytest.raises(FDAEError, match="a process that reads images was killed"), explained_faults():
        raise error


@pytest.mark.parametrize("write", [lambda path: path.write_text(""), lambda path: torch.save({}, path)])
@pytest.mark.parametrize(("together", "told"), [(True, "another process"), (False, "cannot write the file")])
def test_a_folder_that_another_process_deleted_is_not_this_ones_fault(tmp_path, monkeypatch, together, told, write):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: together)
    with pytest.raises(FDAEError, match=told), whole_or_error("the file", tmp_path / "unfinished"):
        write(tmp_path / "unfinished" / "file")


def test_full_memory_is_told_in_one_line(tmp_path, monkeypatch):
    def fill(trainer):
        raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB.\nmore")

    at_step(monkeypatch, 1, fill)
    with pytest.raises(FDAEError, match=r"out of memory: Tried to allocate 20.00 GiB\. Set micro_batch_size"):
        train(config_for(tmp_path))


def spoil(trainer):
    """Batch statistics that are no numbers do not show in the losses of training."""
    with torch.no_grad():
        next(iter(trainer.objective.encoder.buffers())).fill_(torch.nan)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, monkeypatch):
    at_step(monkeypatch, 2, spoil)
    with pytest.raises(
        FDAEError, match="weights are no longer numbers at step 2: start again with a lower learning_rate"
    ):
        train(config_for(tmp_path / "checkpoint", checkpointing_steps=1))
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoint")] == ["checkpoint-1"]
    with pytest.raises(FDAEError, match="no longer numbers at step 6"):
        train(config_for(tmp_path / "end"))
    assert not (tmp_path / "end" / "model_index.json").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB, as only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_disk_leaves_whole_checkpoints_that_a_run_goes_on_from(tmp_path, small_disk):
    settings = {"checkpointing_steps": 1, "max_train_steps": 9}
    with pytest.raises(FDAEError, match=r"cannot write the checkpoint .*No space left") as error:
        train(config_for(small_disk / "run", **settings))
    assert "\n" not in str(error.value)
    *older, newest = list_checkpoints(small_disk / "run")
    assert_whole(newest)
    for path in older:
        shutil.rmtree(path)
    settings["checkpoints_total_limit"] = 1
    train(config_for(small_disk / "run", **settings, resume_from_checkpoint="latest"))
    train(config_for(tmp_path / "whole", **settings))
    assert_same_weights(tmp_path / "whole", small_disk / "run")


def test_disk_that_becomes_read_only_leaves_whole_checkpoints(small_disk, monkeypatch):
    def freeze(trainer):
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    at_step(monkeypatch, 3, freeze)
    with pytest.raises(FDAEError, match=r"cannot write the checkpoint .*Read-only file system"):
        train(config_for(small_disk / "run", checkpointing_steps=1))
    assert_whole(list_checkpoints(small_disk / "run")[-1])
    with pytest.raises(FDAEError, match=r"cannot write to output_dir .*Read-only file system"):
        train(config_for(small_disk / "run", resume_from_checkpoint="latest"))


def test_full_disk_at_the_end_leaves_the_pipeline_that_was_there(tmp_path, monkeypatch):
    train(config_for(tmp_path, seed=1))
    before = (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()

    def save_half(pipeline, folder, variant=None):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FDAEPipeline, "save_pretrained", save_half)
    with pytest.raises(FDAEError, match=r"cannot write the pipeline to .*: No space left on device; make room"):
        train(config_for(tmp_path))
    assert (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_new_run_leaves_no_averaged_weights_of_the_one_before(tmp_path):
    train(config_for(tmp_path, use_ema=True, max_train_steps=1))
    train(config_for(tmp_path, max_train_steps=1))
    assert not list(tmp_path.rglob("*.ema.safetensors"))


def test_what_was_measured_of_a_model_does_not_stay_with_the_next(tmp_path):
    train(config_for(tmp_path, max_train_steps=1))
    measured = [file.name for file in MODEL_FILES if file.outdated_by_training]
    for name in (*measured, "notes.txt"):
        (tmp_path / name).write_text("{}")
    train(config_for(tmp_path, max_train_steps=1, seed=1))
    # The new run measures its own health; nothing else of the model before is left.
    assert (tmp_path / "health.json").read_text() != "{}"
    left = [name for name in (*measured, "notes.txt") if (tmp_path / name).exists()]
    assert left == ["health.json", "notes.txt"]


def test_damaged_checkpoint_is_named(tmp_path):
    train(config_for(tmp_path, use_ema=True, max_train_steps=1, checkpointing_steps=1))
    for file in (tmp_path / "checkpoint-1").iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:40])
        with pytest.raises(FDAEError, match=r"cannot read .*checkpoint-1: .* Delete it") as error:
            train(config_for(tmp_path, use_ema=True, max_train_steps=1, resume_from_checkpoint="latest"))
        assert "\n" not in str(error.value)
        file.write_bytes(whole)


def test_killed_at_random_moments_of_writing_a_run_still_equals_an_uninterrupted_one(tmp_path):
    """SIGKILL, FDAE_KILLS times: shortly after a checkpoint is begun or has appeared."""
    settings = {
        "use_ema": True,
        "checkpointing_steps": 1,
        "checkpoints_total_limit": 2,
        "max_train_steps": 3 * KILLS + 1,
    }
    generator, run, halves = random.Random(0), tmp_path / "run", 0
    for _ in range(KILLS):
        done = list_checkpoints(run)
        resume = "latest" if done else None
        process = start(train_here, config_for(run, **settings, resume_from_checkpoint=resume))
        target = (int(done[-1].name.split("-")[1]) if done else 0) + generator.randint(1, 3)
        deadline = time.monotonic() + 60
        while not list(run.glob(f"checkpoint-{target}*")) and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        halves += len(list(run.glob("*.unfinished")))
    print(f"{halves} of {KILLS} kills left an unfinished checkpoint")
    train(config_for(run, **settings, resume_from_checkpoint="latest"))
    assert not list(run.glob("*.unfinished"))
    train(config_for(tmp_path / "whole", **settings))
    assert_same_weights(run, tmp_path / "whole")
