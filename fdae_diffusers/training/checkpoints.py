"""Checkpoints of a training run, written atomically; old ones are deleted only after the new one is complete."""

import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import load

from ..errors import FDAEError, first_line
from .batches import StreamLoader
from .config import TrainingConfig
from .ema import ModelAverage
from .faults import whole_or_error

SETTINGS_FILE = "training_config.json"
STREAM_FILE = "stream.json"
UNFINISHED = ".unfinished"  # end of the name of a folder that is being written
_NAME = re.compile(r"checkpoint-(\d+)$")


def save_checkpoint(
    accelerator: Accelerator,
    config: TrainingConfig,
    step: int,
    average: ModelAverage | None = None,
    stream: StreamLoader | None = None,
) -> Path:
    """Save everything that a run resumes from, and its settings, to ``output_dir/checkpoint-STEP``.

    The folder gets its name only when it is complete. After that, the oldest checkpoints over the limit are deleted.

    Args:
        accelerator: The accelerator that prepared the model, optimizer, schedule and data loader.
        config: The settings of the run.
        step: Optimizer steps done.
        average: The EMA weights, if EMA is on.
        stream: The loader of a stream, whose position does not follow from the number of steps.

    Raises:
        FDAEError: If it cannot be written.
    """
    output_dir = Path(config.output_dir)
    path = output_dir / f"checkpoint-{step}"
    unfinished = output_dir / f"{path.name}{UNFINISHED}"
    with whole_or_error(f"the checkpoint {path}", unfinished):
        if accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        if average is not None:
            average.save(unfinished, accelerator.process_index)
        positions = None if stream is None else stream.state_dict()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (unfinished / SETTINGS_FILE).write_text(json.dumps(asdict(config), indent=2) + "\n")
            if positions is not None:
                (unfinished / STREAM_FILE).write_text(json.dumps(positions) + "\n")
            os.replace(unfinished, path)
    if accelerator.is_main_process and config.checkpoints_total_limit is not None:
        for old in list_checkpoints(output_dir)[: -config.checkpoints_total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return path


def load_checkpoint(
    accelerator: Accelerator, path: Path, average: ModelAverage | None = None, stream: StreamLoader | None = None
) -> None:
    """Restore everything that :func:`save_checkpoint` saved.

    Raises:
        FDAEError: If the number of processes differs, for a stream also the number of workers, or a file is damaged.
    """
    num_processes = len(list(path.glob("random_states_*.pkl")))
    if num_processes != accelerator.num_processes:
        raise FDAEError(
            f"{path} was made by {num_processes} processes, not {accelerator.num_processes}: resume with as many"
        )
    try:
        # accelerate silently ignores unreadable random states, so load them first.
        load(path / f"random_states_{accelerator.process_index}.pkl")
        accelerator.load_state(str(path))
        _keep_steps_on_host(accelerator)
        if average is not None:
            average.load(path, accelerator.process_index)
        if stream is not None:
            stream.load_state_dict(json.loads((path / STREAM_FILE).read_text()))
    except (FDAEError, torch.OutOfMemoryError):  # not caused by the files
        raise
    except Exception as error:  # of accelerate, torch, pickle or safetensors
        raise _damaged(path, error) from error


def _keep_steps_on_host(accelerator: Accelerator) -> None:
    """Put the optimizer's counts of steps back on the CPU, where a new run has them.

    In a run of several processes accelerate loads them to the device. RAdam reads each with `.item()`, several times
    per step and parameter: thousands of waits for the device in every step.
    """
    for optimizer in accelerator._optimizers:
        for state in optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].cpu()


def _damaged(path: Path, error: Exception) -> FDAEError:
    return FDAEError(f"cannot read {path}: {first_line(error).rstrip('.')}. Delete it to resume from an earlier one")


def delete_unfinished(output_dir: Path) -> None:
    """Delete the folders that a killed run left half written."""
    for path in output_dir.glob(f"*{UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted((path for path in output_dir.glob("checkpoint-*") if _NAME.search(path.name)), key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """Return the number of optimizer steps done at a checkpoint, from its folder's name.

    Raises:
        FDAEError: If the folder is not named like a checkpoint.
    """
    match = _NAME.search(path.name)
    if match is None:
        raise FDAEError(f"{path} is not a checkpoint folder: they are called checkpoint-STEP")
    return int(match[1])


def find_checkpoint(config: TrainingConfig) -> Path | None:
    """Return the checkpoint that a run resumes from, or ``None`` if it starts from scratch.

    Raises:
        FDAEError: If the checkpoint does not exist, was made with other settings or is past the last step; or if the
            folder holds checkpoints of another run, or later ones.
    """
    output_dir, name = Path(config.output_dir), config.resume_from_checkpoint
    checkpoints = list_checkpoints(output_dir)
    if name is None:
        if checkpoints:
            raise FDAEError(
                f"{output_dir} holds checkpoints of another run: resume with resume_from_checkpoint=latest, "
                "or name another output_dir"
            )
        return None
    if name == "latest":
        if not checkpoints:
            raise FDAEError(f"there is no checkpoint in {output_dir} to resume from; leave resume_from_checkpoint out")
        path = checkpoints[-1]
    else:
        path = output_dir / name if (output_dir / name).is_dir() else Path(name)
    if checkpoint_step(path) > config.max_train_steps:
        raise FDAEError(f"{path} is past max_train_steps={config.max_train_steps}")
    try:
        settings = json.loads((path / SETTINGS_FILE).read_text())
    except OSError:
        raise FDAEError(f"there is no complete checkpoint {path}") from None
    except ValueError as error:
        raise _damaged(path, error) from error
    config.check_resumes(settings)
    if path.parent.resolve() == output_dir.resolve() and checkpoint_step(path) < checkpoint_step(checkpoints[-1]):
        raise FDAEError(
            f"{output_dir} holds checkpoints after {path.name}, up to {checkpoints[-1].name}: delete them, or name "
            f"another output_dir and resume_from_checkpoint={path}"
        )
    return path
