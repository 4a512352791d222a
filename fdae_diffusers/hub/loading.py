"""Load a trained model for a script."""

import torch
from huggingface_hub.errors import HTTPError

from ..errors import FDAEError, first_line
from ..pipeline_fdae import FDAEPipeline
from ..utils.hub import check_folder


def load_pipeline(model: str, device: str | None = None, variant: str | None = None) -> FDAEPipeline:
    """Load a pipeline to the accelerator, if there is one; whatever goes wrong is told in one line.

    Args:
        model: Folder or Hub id.
        device: ``"cuda"``, ``"cpu"`` or another; by default the accelerator that torch finds, else the CPU.
        variant: ``"ema"`` for averaged weights, if the model has them.

    Raises:
        FDAEError: If the model cannot be loaded, or there is no such device.
    """
    check_folder(model)
    try:
        pipeline = FDAEPipeline.from_pretrained(model, variant=variant)
    except (OSError, ValueError, HTTPError) as error:
        raise FDAEError(f"cannot load the model {model!r}: {first_line(error)}") from error
    try:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return pipeline.to(device or accelerator or "cpu")
    except (RuntimeError, AssertionError) as error:  # torch's for an unknown, and for an absent device
        raise FDAEError(f"cannot use the device {device!r}: {first_line(error)}") from error
