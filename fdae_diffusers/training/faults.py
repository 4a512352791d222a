"""Explain failures of a run in one line that says what to do, and delete what they left half written."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from ..errors import FDAEError, first_line

OTHER_FAILED = "another process of this run has failed: see its message"
GO_ON = "resume from the last checkpoint with resume_from_checkpoint=latest"


def diverged(what: str, step: int, details: str = "") -> FDAEError:
    """Return the error of a training that diverged."""
    return FDAEError(f"{what} at step {step}{details}: start again with a lower learning_rate or with max_grad_norm")


def check_weights(accelerator: Accelerator, model: nn.Module, step: int) -> None:
    """Make sure that all parameters and buffers are finite. All processes have to call this; it waits for the device.

    Raises:
        FDAEError: If one is not, on any process.
    """
    finite = torch.ones((), device=accelerator.device)
    for tensor in [*model.parameters(), *model.buffers()]:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor  # FSDP: this process's shard
        finite *= local.detach().isfinite().all()
    if accelerator.reduce(finite, reduction="sum") != accelerator.num_processes:
        raise diverged("the weights are no longer numbers", step)


@contextmanager
def whole_or_error(what: str, unfinished: Path) -> Iterator[None]:
    """Delete an unfinished folder when writing it fails, a full disk for example.

    Raises:
        FDAEError: If it fails.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
        together = distributed.is_available() and distributed.is_initialized()
        # Another process failed to write its part and deleted the folder: these are the system's and torch's words.
        missing = any(words in str(error) for words in (os.strerror(errno.ENOENT), "does not exist"))
        deleted = together and missing and not unfinished.exists()
        reason = _reason(error, unfinished.parent)
        shutil.rmtree(unfinished, ignore_errors=True)
        if _from_elsewhere(error):
            raise
        if deleted:
            raise FDAEError(f"{OTHER_FAILED}, and {GO_ON}") from error
        raise FDAEError(f"cannot write {what}: {reason}; make room, and {GO_ON}") from error


@contextmanager
def explained_faults() -> Iterator[None]:
    """Explain failures of the machine in one line.

    Raises:
        FDAEError: If the device is out of memory, or a process that reads images or trains was killed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise FDAEError(
            f"out of memory: {first_line(error)} Set micro_batch_size, gradient_checkpointing or mixed_precision, or "
            "lower train_batch_size and raise gradient_accumulation_steps"
        ) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        explanation = _from_elsewhere(error)
        if explanation is None:
            raise
        raise FDAEError(f"{explanation}, and {GO_ON}") from error


def _from_elsewhere(error: Exception) -> str | None:
    """Explain an error caused by another process, or return ``None``; torch raises such errors anywhere."""
    # A killed reader of images shows as a missing worker, or as a broken connection while it sends a batch.
    if isinstance(error, ConnectionError | EOFError) or "DataLoader worker" in str(error):
        return (
            "a process that reads images was killed, often for lack of memory: free some or, unless streaming, lower "
            "dataloader_num_workers"
        )
    if isinstance(error, RuntimeError) and "by peer" in str(error):  # gloo; under NCCL the launcher ends the process
        return OTHER_FAILED
    return None


def _reason(error: Exception, folder: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if shutil.disk_usage(folder).free < 2**16:  # torch does not say so
        return os.strerror(errno.ENOSPC)
    return first_line(error)
