"""Safetensors files that are written in one step, and that others may read as the umask says."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import FDAEError
from .files import whole_file


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a file, which replaces one of the same name only when it is complete.

    Raises:
        FDAEError: If the metadata are not all strings.
    """
    if not all(isinstance(text, str) for item in (metadata or {}).items() for text in item):
        raise FDAEError("metadata must map strings to strings: json.dumps makes a string of anything else")
    data = save({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, dict(metadata or {}) or None)
    with whole_file(Path(path)) as unfinished:
        unfinished.write_bytes(data)  # safetensors' own `save_file` makes a file that no other user can read


def read_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read the tensors of a file to the CPU.

    Raises:
        FDAEError: If there is no such file, or it is damaged or no safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Read the metadata of a file, without its tensors.

    Raises:
        FDAEError: As :func:`read_tensors`.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[safe_open]:
    if not Path(path).is_file():
        raise FDAEError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise FDAEError(f"{path} is damaged or no safetensors file") from error
