"""Explain in one line why a model could not be loaded, from a folder or from the Hub."""

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from huggingface_hub import list_repo_files, try_to_load_from_cache
from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from ..errors import FDAEError

_NO_INDEX = "{} is not a pipeline: it has no model_index.json"
_NO_VARIANT = "no such modeling files are available"  # diffusers, when no file has the variant in its name
_VARIANT_FILE = re.compile(r"[^/]+/diffusion_pytorch_model\.([^./]+?)(-\d{5}-of-\d{5})?\.safetensors")


def explain_loading_error(
    error: Exception,
    model: str | os.PathLike,
    components: Iterable[str],
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    variant: str | None = None,
) -> str | None:
    """Say in one line why a pipeline did not load, where diffusers' own message misleads.

    Args:
        error: What diffusers raised.
        model: Folder or Hub id.
        components: Names of the components that the pipeline needs.
        revision: The revision that was asked for.
        cache_dir: The cache that was used, if not the usual one.
        variant: The variant of the weights that was asked for.

    Returns:
        The explanation, or ``None`` where diffusers' message will do.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RevisionNotFoundError):
            return f"{model} has no revision {revision!r} on the Hub"
        if isinstance(cause, RepositoryNotFoundError):
            return f"there is no model {model} here or on the Hub; if it is private or gated, log in: hf auth login"
        if isinstance(cause, RemoteEntryNotFoundError) and "model_index.json" in str(cause):
            return _NO_INDEX.format(model)
        cause = cause.__cause__
    if _NO_VARIANT in str(error):
        return _missing_variant(model, variant, revision)
    if "not fully cached locally" in str(error) and "outgoing traffic" in str(error):
        return f"the Hub is out of reach, and {model} is not fully cached locally"
    # A download that broke off also leaves files missing: then diffusers' error is another one, and right.
    if isinstance(error, ValueError) or "no file named" in str(error):
        return _missing_part(model, components, revision, cache_dir)
    return None


def _missing_part(
    model: str | os.PathLike, components: Iterable[str], revision: str | None, cache_dir: str | Path | None
) -> str | None:
    if os.path.isdir(model):
        index_file: object = os.path.join(model, "model_index.json")
    else:
        index_file = try_to_load_from_cache(str(model), "model_index.json", cache_dir=cache_dir, revision=revision)
    if not isinstance(index_file, str):
        return None
    if not os.path.isfile(index_file):
        return _NO_INDEX.format(model)
    index = json.loads(Path(index_file).read_text())
    for component in components:
        if component not in index:
            return f"{model} has no component {component!r}: its model_index.json does not name one"
        folder = Path(index_file).parent / component
        if not folder.is_dir():
            return f"{model} has no component {component!r}: there is no folder {component}"
        if not any(folder.glob("*config.json")):
            return f"the component {component!r} of {model} has no configuration file"
        if component != "scheduler" and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            return f"the component {component!r} of {model} has no weights"
    return None


def _missing_variant(model: str | os.PathLike, variant: str | None, revision: str | None) -> str:
    files: list[str] = []
    if os.path.isdir(model):
        files = [path.relative_to(model).as_posix() for path in Path(model).glob("*/*")]
    else:
        with suppress(OSError, ValueError, HTTPError):  # without the Hub, its variants are not known
            files = list_repo_files(str(model), revision=revision)
    variants = sorted({match[1] for file in files if (match := _VARIANT_FILE.fullmatch(file))})
    others = f"its variants are {', '.join(variants)}, and the weights without a name" if variants else "leave it out"
    return f"{model} has no weights of the variant {variant!r}: {others}"


def check_folder(model: str | os.PathLike) -> None:
    """Raise FDAEError if a model's name reads as a folder, which a Hub id does not, and there is no such folder."""
    name = str(model)
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise FDAEError(f"there is no model folder {name}")
