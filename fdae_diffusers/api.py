"""What `import fdae_diffusers` offers, and what diffusers has to know of it.

This module makes pipelines load by name. `import fdae_diffusers` imports it at once, so that
`DiffusionPipeline.from_pretrained` finds our classes; only the command `fdae` imports it later, when it loads a model.
"""

import diffusers
from diffusers import ModelMixin, SchedulerMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .basis import CodeBasis
from .codes import FDAECodes
from .models import CMFNet, CMFNetOutput, FDAEUNet2DModel
from .objective import FDAEObjective, FDAEObjectiveOutput
from .pipeline_fdae import FDAEPipeline, FDAEPipelineOutput
from .schedulers import EDMHeunScheduler

# Makes diffusers write and read "fdae_diffusers" as the library of our components in model_index.json. Without it, a
# pipeline loads from a folder but not from the Hub. ModelMixin and SchedulerMixin above are part of that contract:
# diffusers looks them up in the package.
LOADABLE_CLASSES["fdae_diffusers"] = {}
# DiffusionPipeline.from_pretrained looks the class of a pipeline up in diffusers itself.
diffusers.FDAEPipeline = FDAEPipeline

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
]
