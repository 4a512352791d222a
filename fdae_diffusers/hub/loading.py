"""Load a trained model, from a folder or from the Hub."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError

from ..api import FDAEPipeline  # not from its own module: what diffusers must know to load it from the Hub is there
from ..errors import FDAEError, user_errors
from ..utils.assets import find_model
from ..utils.hub import check_folder


@dataclass(kw_only=True)
class ModelConfig:
    """Which model a script works on; the flags of every command that loads one."""

    model: str = field(metadata={"help": "Pipeline folder or Hub id."})
    variant: str | None = field(default=None, metadata={"help": "Weights of the model: ema for the averaged ones."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    device: str | None = field(default=None, metadata={"help": "cuda, cpu, ...; an accelerator if there is one."})

    def load_pipeline(self) -> FDAEPipeline:
        """Load the model, see :func:`load_pipeline`."""
        return load_pipeline(self.model, self.device, self.variant, self.revision)


def load_pipeline(
    model: str, device: str | None = None, variant: str | None = None, revision: str | None = None
) -> FDAEPipeline:
    """Load a pipeline to the accelerator, if there is one.

    Args:
        model: Folder, Hub id or name of a model that comes with the package.
        device: ``"cuda"``, ``"cpu"`` or another; by default the accelerator that torch finds, else the CPU.
        variant: ``"ema"`` for averaged weights, if the model has them.
        revision: Branch, tag or commit of a model on the Hub.

    Raises:
        FDAEError: If the model cannot be loaded, or there is no such device; the message is one line.
    """
    model = find_model(model)
    check_folder(model)
    try:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        chosen = torch.device(device or accelerator or "cpu")
    except RuntimeError as error:  # whose message lists twenty kinds of devices
        raise FDAEError(f"cannot use the device {device!r}: there are cpu, cuda, cuda:1, mps, ...") from error
    what = f"cannot load the model {model!r}"
    if not Path(model).is_dir():
        what = f"there is no folder {model} here, and no such model could be loaded from the Hub"
    with user_errors(what, OSError, ValueError, HTTPError):
        pipeline = FDAEPipeline.from_pretrained(model, variant=variant, revision=revision)
    # torch raises the one for an unknown, the other for an absent device
    with user_errors(f"cannot use the device {device!r}", RuntimeError, AssertionError):
        return pipeline.to(chosen)


def find_file(model: str, name: str, revision: str | None = None) -> Path | None:
    """Return a file of a model's folder, downloaded if the model is on the Hub; ``None`` if it cannot be had.

    Args:
        model: Folder or Hub id.
        name: Name of the file, of `MODEL_FILES`.
        revision: Branch, tag or commit of a model on the Hub.
    """
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    with suppress(OSError, ValueError, HTTPError):
        return Path(hf_hub_download(model, name, revision=revision))
    return None
