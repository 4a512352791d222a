"""Upload a finished run to the Hub: pipeline, card, scores and pictures, never checkpoints or optimizer state."""

import shutil
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import filter_repo_objects

from ..errors import FDAEError, first_line
from .files import uploaded_patterns


def prepare_repository(repo_id: str, private: bool = False, dry_run_dir: str | Path | None = None) -> str:
    """Create the repository, or check the folder of a dry run, and return the model's full id on the Hub.

    Args:
        repo_id: Repository, in one's own namespace unless it names another.
        private: Create it as a private one.
        dry_run_dir: Folder for the files instead.

    Raises:
        FDAEError: If there is no connection, login or permission, the name is none, or the dry run's folder exists.
    """
    if dry_run_dir is not None:
        if Path(dry_run_dir).exists():
            raise FDAEError(f"{dry_run_dir} exists: name a new folder for the dry run")
        return repo_id
    try:
        return HfApi().create_repo(repo_id, private=private, exist_ok=True).repo_id
    except (HTTPError, OSError, ValueError) as error:  # refused, unreachable or not logged in, no name for it
        raise FDAEError(
            f"cannot push to the Hub: {first_line(error)} (log in with `hf auth login`, or make a dry run to a folder)"
        ) from error


def publish(folder: str | Path, model_id: str, dry_run_dir: str | Path | None = None) -> None:
    """Upload what belongs to the model to a repository that exists, in one commit.

    Args:
        folder: The output folder of a run.
        model_id: Full id of the repository.
        dry_run_dir: Copy the files there instead of uploading them; needs no login.

    Raises:
        FDAEError: If the Hub cannot be reached or refuses.
    """
    folder = Path(folder)
    if dry_run_dir is not None:
        files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
        for name in filter_repo_objects(files, allow_patterns=uploaded_patterns()):
            target = Path(dry_run_dir) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, target)
        return
    try:
        HfApi().upload_folder(
            repo_id=model_id,
            folder_path=folder,
            commit_message="Upload a Factorized Diffusion Autoencoder",
            allow_patterns=uploaded_patterns(),
            delete_patterns=uploaded_patterns(),  # what the model before had and this one has not
        )
    except (HTTPError, OSError, ValueError) as error:
        raise FDAEError(
            f"cannot push {folder} to {model_id}: {first_line(error)}. The model is complete in {folder}"
        ) from error
