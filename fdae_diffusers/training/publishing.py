"""Upload a finished run to the Hub: pipeline, card, scores and pictures, never checkpoints or optimizer state."""

import shutil
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects

from ..errors import FDAEError

ALLOWED = ["model_index.json", "README.md", "training.json", "metrics.json", "*.png"]
ALLOWED += ["unet/*", "encoder/*", "scheduler/*"]
IGNORED = ["checkpoint-*", "logs/*", "samples/*", ".*"]


def check_login() -> None:
    """Make sure that an upload will be possible, before hours of training.

    Raises:
        FDAEError: If there is no valid token.
    """
    try:
        HfApi().whoami()
    except (LocalTokenNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FDAEError(
            f"cannot push to the Hub: {reason} (log in with `hf auth login`, or name a folder as hub_dry_run_dir)"
        ) from error


def publish(folder: str | Path, repo_id: str, private: bool = False, dry_run_dir: str | Path | None = None) -> str:
    """Upload what belongs to the model, in one commit.

    Args:
        folder: The output folder of a run.
        repo_id: Repository on the Hub, created if it does not exist.
        private: Create it as a private one.
        dry_run_dir: Copy the files there instead of uploading them; needs no token.

    Returns:
        Where the model is: an address or the folder.

    Raises:
        FDAEError: If the dry run's folder exists, or the Hub refuses.
    """
    folder = Path(folder)
    if dry_run_dir is not None:
        target = Path(dry_run_dir)
        if target.exists():
            raise FDAEError(f"{target} exists: name a new folder for the dry run")
        files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
        for name in filter_repo_objects(files, allow_patterns=ALLOWED, ignore_patterns=IGNORED):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, target / name)
        return str(target)
    try:
        api = HfApi()
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo.repo_id,
            folder_path=folder,
            commit_message="Upload a Factorized Diffusion Autoencoder",
            allow_patterns=ALLOWED,
            ignore_patterns=IGNORED,
        )
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FDAEError(f"cannot push {folder} to {repo_id}: {reason}. The model is complete in {folder}") from error
    return str(repo)
