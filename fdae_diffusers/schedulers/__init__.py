"""Samplers that diffusers does not have, and the choice among all."""

from .defaults import (
    DEFAULT_SAMPLER,
    SAMPLERS,
    Sampler,
    choose_num_inference_steps,
    default_scheduler,
    make_scheduler,
)
from .edm_heun import EDMHeunScheduler

__all__ = [
    "DEFAULT_SAMPLER",
    "SAMPLERS",
    "EDMHeunScheduler",
    "Sampler",
    "choose_num_inference_steps",
    "default_scheduler",
    "make_scheduler",
]
