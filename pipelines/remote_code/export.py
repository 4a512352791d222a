#!/usr/bin/env python
"""Give a model the code that loads it, for people who have diffusers but not the package fdae_diffusers.

    python pipelines/remote_code/export.py --model outputs/quickstart --output_dir outputs/quickstart-remote-code

The result loads with `DiffusionPipeline.from_pretrained(folder_or_repository, trust_remote_code=True)`. The code is
generated from the installed package. README.md next to this file says where to upload it.
"""

import json
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import snapshot_download

import fdae_diffusers
from fdae_diffusers.errors import FDAEError, first_line
from fdae_diffusers.hub.files import INDEX_FILE, component_folders, is_uploaded
from fdae_diffusers.utils.arguments import parse_config, run_script
from fdae_diffusers.utils.files import new_folder
from fdae_diffusers.utils.hub import explain_loading_error

sys.path.insert(0, str(Path(__file__).parent))

from flatten import PACKAGE, flatten

PIPELINE = Path(__file__).with_name("pipeline.py")
HEADER = (
    "# Generated from fdae_diffusers {version} (Apache License 2.0) by pipelines/remote_code/export.py.\n"
    "# Change it there, not here.\n"
)
# The pipeline's file does without the networks: each comes with a file of its own.
STAND_INS = {"CMFNet": "diffusers.ModelMixin", "FDAEUNet2DModel": "diffusers.ModelMixin"}


@dataclass
class ExportConfig:
    """Settings of an export."""

    model: str = field(metadata={"help": "Pipeline folder or Hub id."})
    output_dir: str = field(metadata={"help": "Folder to write; it must not exist."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})


def main() -> None:
    """Export with the settings of the command line."""
    config = parse_config(ExportConfig)
    print(f"written to {export(config.model, config.output_dir, config.revision)}")


def export(model: str | Path, output_dir: str | Path, revision: str | None = None) -> Path:
    """Copy a pipeline and add the code that loads it without the package.

    Weights in all variants, configurations and the files that go to the Hub (the model card, scores, pictures) are
    copied; what else the folder holds, checkpoints for example, is not.

    Args:
        model: Pipeline folder or Hub id.
        output_dir: Folder to write: whole, or not at all.
        revision: Branch, tag or commit of a model on the Hub.

    Returns:
        The folder.

    Raises:
        FDAEError: If there is no such model, it is no FDAE pipeline, or the folder exists already.
    """
    with new_folder(output_dir) as folder:
        source = Path(model) if Path(model).is_dir() else _download(str(model), revision)
        index = _read_index(source)
        for file in source.iterdir():
            if file.is_file() and is_uploaded(file.name):
                shutil.copyfile(file, folder / file.name)
        for name in component_folders(source):
            shutil.copytree(source / name, folder / name)
            library, class_name = index[name]
            if library == PACKAGE:
                index[name] = [f"fdae_{name}", class_name]
                (folder / name / f"fdae_{name}.py").write_text(component_code(class_name), encoding="utf-8")
        index["_class_name"] = ["pipeline", index["_class_name"]]
        (folder / "pipeline.py").write_text(pipeline_code(), encoding="utf-8")
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return Path(output_dir)


def pipeline_code() -> str:
    """Return the file ``pipeline.py`` of a repository."""
    return _header() + flatten(PIPELINE, "pipeline", STAND_INS)


def component_code(class_name: str) -> str:
    """Return the file of a component, which defines the class of this name."""
    module = sys.modules[getattr(fdae_diffusers, class_name).__module__]
    return _header() + flatten(Path(str(module.__file__)), module.__name__)


def _header() -> str:
    return HEADER.format(version=version("fdae-diffusers"))


def _download(model: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(model, revision=revision))
    except (OSError, ValueError) as error:
        reason = explain_loading_error(error, model, (), revision) or first_line(error)
        raise FDAEError(reason) from error


def _read_index(folder: Path) -> dict:
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise FDAEError(f"{folder} is no pipeline: cannot read its {INDEX_FILE} ({error})") from None
    if index.get("_class_name") != "FDAEPipeline":
        raise FDAEError(f"{folder} is no FDAE pipeline without code: its class is {index.get('_class_name')}")
    return index


if __name__ == "__main__":
    run_script(main)
