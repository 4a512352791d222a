"""Factorized Diffusion Autoencoders (Wu and Zheng, AAAI 2024) on the Hugging Face stack."""

import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "CMFNet",
    "CMFNetOutput",
    "CodeBasis",
    "EDMHeunScheduler",
    "FDAECodes",
    "FDAEObjective",
    "FDAEObjectiveOutput",
    "FDAEPipeline",
    "FDAEPipelineOutput",
    "FDAEUNet2DModel",
    "ModelMixin",
    "SchedulerMixin",
    "__version__",
]

# Importing the package teaches diffusers our classes, which takes the seconds that torch and diffusers need. The
# command `fdae` answers --help and mistakes without them: there, the names are imported at their first use.
_IS_COMMAND = PurePath("".join(sys.argv[:1])).name in ("fdae", "fdae.exe")

if TYPE_CHECKING or not _IS_COMMAND:
    from .api import (
        CMFNet,
        CMFNetOutput,
        CodeBasis,
        EDMHeunScheduler,
        FDAECodes,
        FDAEObjective,
        FDAEObjectiveOutput,
        FDAEPipeline,
        FDAEPipelineOutput,
        FDAEUNet2DModel,
        ModelMixin,
        SchedulerMixin,
    )
else:

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import api

        return getattr(api, name)
