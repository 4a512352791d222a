"""Samplers that diffusers does not have, and the choice among all."""

from .defaults import choose_num_inference_steps, default_scheduler
from .edm_heun import EDMHeunScheduler

__all__ = ["EDMHeunScheduler", "choose_num_inference_steps", "default_scheduler"]
