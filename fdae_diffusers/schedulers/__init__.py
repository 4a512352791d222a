"""Samplers that diffusers does not have, and the choice among all."""

from .defaults import default_num_inference_steps, default_scheduler
from .edm_heun import EDMHeunScheduler

__all__ = ["EDMHeunScheduler", "default_num_inference_steps", "default_scheduler"]
