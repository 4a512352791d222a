"""Upload a finished run to the Hub: pipeline, card, scores and pictures, never checkpoints or optimizer state."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import filter_repo_objects

from ..errors import FDAEError, user_errors
from ..utils.files import whole_file
from .card import write_model_card
from .files import TRAINING_FILE, uploaded_patterns

# The Hub refuses, cannot be reached or wants a login; the name is not one of a repository.
HUB_ERRORS = (HTTPError, OSError, ValueError)


@dataclass
class UploadConfig:
    """Settings of an upload."""

    model: str = field(metadata={"help": "Output folder of training/train_fdae.py."})
    repo_id: str = field(metadata={"help": "Repository on the Hub, created if it does not exist."})
    private: bool = field(default=False, metadata={"help": "Create it as a private one."})
    dry_run_dir: str | None = field(default=None, metadata={"help": "Copy the files to this folder instead."})


def push(config: UploadConfig) -> str:
    """Write the repository's name into the model card, upload the model and say where it is now.

    Args:
        config: The settings.

    Returns:
        The model's full id on the Hub.

    Raises:
        FDAEError: If the folder is no output of a training run, the Hub refuses, or the dry run's folder exists.
    """
    folder = Path(config.model)
    record_file = folder / TRAINING_FILE
    if not record_file.is_file():
        raise FDAEError(f"{folder} is no output folder of training/train_fdae.py: it has no {TRAINING_FILE}")
    model_id = prepare_repository(config.repo_id, config.private, config.dry_run_dir)
    record = json.loads(record_file.read_text())
    with whole_file(record_file) as unfinished:
        unfinished.write_text(json.dumps({**record, "model_id": model_id}, indent=2) + "\n")
    write_model_card(folder)
    publish(folder, model_id, config.dry_run_dir)
    return model_id


def prepare_repository(repo_id: str, private: bool = False, dry_run_dir: str | Path | None = None) -> str:
    """Create the repository, or check the folder of a dry run. Of several processes, one alone calls this.

    Args:
        repo_id: Repository, in one's own namespace unless it names another.
        private: Create it as a private one.
        dry_run_dir: Folder that the files are copied to instead.

    Returns:
        The model's full id on the Hub.

    Raises:
        FDAEError: If there is no connection, login or permission, the id is not valid, or the dry run's folder exists.
    """
    if dry_run_dir is not None:
        if Path(dry_run_dir).exists():
            raise FDAEError(f"{dry_run_dir} exists: name a new folder for the dry run")
        return repo_id
    hint = "log in with `hf auth login`, or make a dry run to a folder"
    with user_errors(f"cannot push to the Hub ({hint})", *HUB_ERRORS):
        return HfApi().create_repo(repo_id, private=private, exist_ok=True).repo_id


def publish(folder: str | Path, model_id: str, dry_run_dir: str | Path | None = None) -> None:
    """Upload what belongs to the model to a repository that exists, in one commit, and print where it is now.

    Args:
        folder: The output folder of a run.
        model_id: Full id of the repository.
        dry_run_dir: Copy the files there instead of uploading them; needs no login.

    Raises:
        FDAEError: If the Hub cannot be reached or refuses.
    """
    folder = Path(folder)
    patterns = uploaded_patterns(folder)
    if dry_run_dir is not None:
        files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
        for name in filter_repo_objects(files, allow_patterns=patterns):
            target = Path(dry_run_dir) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, target)
        print(f"copied to {dry_run_dir}; nothing was uploaded")
        return
    with user_errors(f"cannot push {folder}, where the model is complete, to {model_id}", *HUB_ERRORS):
        HfApi().upload_folder(
            repo_id=model_id,
            folder_path=folder,
            commit_message="Upload a Factorized Diffusion Autoencoder",
            allow_patterns=patterns,
            delete_patterns=patterns,  # what the model before had and this one has not
        )
    print(f"uploaded to {model_id}")
