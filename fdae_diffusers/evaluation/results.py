"""What every evaluation of a model shares: which model, where its result goes, and how it is written."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FDAEError
from ..hub.loading import ModelConfig
from ..utils.files import output_file, whole_file


@dataclass(kw_only=True)
class ResultConfig(ModelConfig):
    """Which model is evaluated, and where the result goes."""

    output: str | None = field(
        default=None, metadata={"help": "JSON file; by default in a local model's folder, else in the current one."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace a result that is there already."})


def result_path(config: ResultConfig, name: str) -> Path:
    """Return where a result goes: as told, else to a local model's folder, else here.

    Raises:
        FDAEError: If that is a folder, or a file that is not to be replaced.
    """
    path = output_file(config.output, config.model, name)
    refuse_existing(path, config.overwrite)
    return path


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise an FDAEError if there is a file which is not to be replaced."""
    if path.exists() and not overwrite:
        raise FDAEError(f"{path} exists already: add --overwrite to replace it, or name another output")


def public_name(name: str) -> str:
    """Return what a result calls a model or data set: its Hub id, or its folder's name without the path to it."""
    return Path(name).resolve().name if Path(name).exists() else name


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all, and say where to."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(result, indent=2, default=np.ndarray.tolist) + "\n")
    print(f"written to {path}")
