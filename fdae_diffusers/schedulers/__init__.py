"""Samplers that diffusers does not have."""

from .edm_heun import EDMHeunScheduler

__all__ = ["EDMHeunScheduler"]
