#!/usr/bin/env python
"""Upload a trained and scored model to the Hub: pipeline, card, scores and pictures.

python training/push_to_hub.py --model outputs/quickstart --repo_id ORG/NAME
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.card import write_model_card
from fdae_diffusers.hub.files import TRAINING_FILE
from fdae_diffusers.hub.publish import prepare_repository, publish
from fdae_diffusers.utils.arguments import parse_config, run_script
from fdae_diffusers.utils.files import whole_file


@dataclass
class UploadConfig:
    """Settings of an upload."""

    model: str = field(metadata={"help": "Output folder of training/train_fdae.py."})
    repo_id: str = field(metadata={"help": "Repository on the Hub, created if it does not exist."})
    private: bool = field(default=False, metadata={"help": "Create it as a private one."})
    dry_run_dir: str | None = field(default=None, metadata={"help": "Copy the files to this folder instead."})


def main() -> None:
    """Upload with the settings of the command line."""
    config = parse_config(UploadConfig)
    print(f"published: {push(config)}")


def push(config: UploadConfig) -> str:
    """Name the repository in the model card and upload the model; return the model's id.

    Raises:
        FDAEError: If the folder is no output of a training run, or the Hub refuses.
    """
    folder = Path(config.model)
    if not (folder / TRAINING_FILE).is_file():
        raise FDAEError(f"{folder} is no output folder of training/train_fdae.py: it has no {TRAINING_FILE}")
    model_id = prepare_repository(config.repo_id, config.private, config.dry_run_dir)
    record = json.loads((folder / TRAINING_FILE).read_text())
    with whole_file(folder / TRAINING_FILE) as unfinished:
        unfinished.write_text(json.dumps({**record, "model_id": model_id}, indent=2) + "\n")
    write_model_card(folder)
    publish(folder, model_id, config.dry_run_dir)
    return model_id


if __name__ == "__main__":
    run_script(main)
