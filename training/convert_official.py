#!/usr/bin/env python
"""Turn a checkpoint of the released FDAE code (github.com/wuancong/FDAE) into a pipeline.

    python training/convert_official.py --checkpoint logs/shapes3d/model100000.pt --output outputs/shapes3d

The folder appears when it is complete; `FDAEPipeline.from_pretrained` and the other scripts take it. Nothing in the
checkpoint is executed: only tensors are read.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdae_diffusers.conversion.checkpoint import convert_official_checkpoint
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.utils.arguments import parse_config, run_script
from fdae_diffusers.utils.files import new_folder


@dataclass
class CheckpointConfig:
    """Settings of a conversion."""

    checkpoint: str = field(metadata={"help": "modelNNNNNN.pt of the released code, or its tensors as safetensors."})
    output: str = field(metadata={"help": "Folder to write; it must not exist."})
    args: str | None = field(
        default=None,
        metadata={"help": "args.json of that training; by default the one beside the checkpoint, if there is one."},
    )


def main() -> None:
    """Convert with the settings of the command line."""
    convert(parse_config(CheckpointConfig))


def convert(config: CheckpointConfig) -> Path:
    """Read the checkpoint, write the pipeline and say what it is.

    Raises:
        FDAEError: If the checkpoint or its arguments are unusable, or the output exists already.
        FileNotFoundError: If one of the files does not exist.
    """
    checkpoint = Path(config.checkpoint)
    with new_folder(config.output) as folder:
        pipeline = convert_official_checkpoint(checkpoint, read_args(checkpoint, config.args))
        pipeline.save_pretrained(folder)
    encoder = pipeline.encoder
    parameters = sum(parameter.numel() for model in (pipeline.unet, encoder) for parameter in model.parameters())
    size, num_concepts = encoder.config.sample_size, encoder.config.num_concepts
    print(f"{num_concepts} concepts, {size}x{size} pixels, {parameters:,} parameters: written to {config.output}")
    return Path(config.output)


def read_args(checkpoint: Path, path: str | None = None) -> dict[str, Any]:
    """Read the released ``args.json``.

    Args:
        checkpoint: The checkpoint, beside which it is looked for.
        path: The file itself, if it is elsewhere.

    Returns:
        The arguments; none if there is no such file, for which those of the released ``train.sh`` will stand in.
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


if __name__ == "__main__":
    run_script(main)
