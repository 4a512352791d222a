"""Checkpoints of a training run: written whole or not at all, and the old ones deleted only after."""

import os
import re
import shutil
from pathlib import Path

from accelerate import Accelerator

from ..errors import FDAEError

_NAME = re.compile(r"checkpoint-(\d+)$")


def save_checkpoint(accelerator: Accelerator, output_dir: Path, step: int, total_limit: int | None = None) -> Path:
    """Save everything that training goes on from to ``output_dir/checkpoint-STEP``.

    The folder gets its name only when it is complete, and older checkpoints over the limit are deleted after that.

    Args:
        accelerator: The accelerator that prepared the model, optimizer, schedule and data loader.
        output_dir: Folder of the run.
        step: Optimizer steps done.
        total_limit: How many checkpoints to keep, all by default.
    """
    path = output_dir / f"checkpoint-{step}"
    unfinished = output_dir / f"checkpoint-{step}.unfinished"
    if accelerator.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(path, ignore_errors=True)
        os.replace(unfinished, path)
        if total_limit is not None:
            for old in list_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return path


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted((path for path in output_dir.glob("checkpoint-*") if _NAME.search(path.name)), key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """Optimizer steps done at a checkpoint, from its folder's name."""
    match = _NAME.search(path.name)
    if match is None:
        raise FDAEError(f"{path} is not a checkpoint folder: they are called checkpoint-STEP")
    return int(match[1])


def find_checkpoint(output_dir: Path, name: str) -> Path:
    """Resolve ``"latest"`` or a path to a checkpoint folder.

    Raises:
        FDAEError: If there is none.
    """
    if name != "latest":
        path = Path(name)
        checkpoint_step(path)
        if not path.is_dir():
            raise FDAEError(f"there is no checkpoint {path}")
        return path
    checkpoints = list_checkpoints(output_dir)
    if not checkpoints:
        raise FDAEError(f"there is no checkpoint in {output_dir} to resume from; leave resume_from_checkpoint out")
    return checkpoints[-1]
