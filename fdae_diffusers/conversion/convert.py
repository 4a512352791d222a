"""Turn a checkpoint of the released code into a pipeline's folder: what `training/convert_official.py` does."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FDAEError
from ..utils.files import new_folder
from .checkpoint import convert_official_checkpoint


@dataclass
class CheckpointConfig:
    """Settings of a conversion."""

    checkpoint: str = field(metadata={"help": "modelNNNNNN.pt of the released code, or its tensors as safetensors."})
    output_dir: str = field(metadata={"help": "Folder to write; it must not exist."})
    args: str | None = field(
        default=None,
        metadata={"help": "args.json of that training; by default the one beside the checkpoint, if there is one."},
    )


def convert_checkpoint(config: CheckpointConfig) -> Path:
    """Read a checkpoint, write the pipeline to a folder, whole or not at all, and print what it is.

    Returns:
        The folder, which `FDAEPipeline.from_pretrained` loads.

    Raises:
        FDAEError: If the checkpoint or its arguments are unusable, or the folder exists already.
        FileNotFoundError: If one of the files does not exist.
    """
    checkpoint = Path(config.checkpoint)
    with new_folder(config.output_dir) as folder:
        pipeline = convert_official_checkpoint(checkpoint, read_args(checkpoint, config.args))
        pipeline.save_pretrained(folder)
    encoder = pipeline.encoder
    parameters = sum(parameter.numel() for model in (pipeline.unet, encoder) for parameter in model.parameters())
    size, num_concepts = encoder.config.sample_size, encoder.config.num_concepts
    print(f"{num_concepts} concepts, {size}x{size} pixels, {parameters:,} parameters: written to {config.output_dir}")
    return Path(config.output_dir)


def read_args(checkpoint: Path, path: str | None = None) -> dict[str, Any]:
    """Read the released ``args.json``.

    Args:
        checkpoint: The checkpoint, beside which it is looked for.
        path: The file itself, if it is elsewhere.

    Returns:
        The arguments; none if there is no such file, so that those of the released ``train.sh`` are taken.

    Raises:
        FDAEError: If the file cannot be read, or holds something else.
    """
    file = checkpoint.with_name("args.json") if path is None else Path(path)
    if path is None and not file.exists():
        print(f"there is no {file}: taking the arguments of the released train.sh")
        return {}
    try:
        args = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FDAEError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # also if it is no text at all
        raise FDAEError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(args, dict):
        raise FDAEError(f"{file} must map names of arguments to values, as the released code writes it")
    return args
