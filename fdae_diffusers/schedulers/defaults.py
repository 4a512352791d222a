"""Samplers by name, the default one, and the steps each takes unless told otherwise; docs/speed.md has the curve."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..errors import FDAEError
from .edm_heun import EDMHeunScheduler

DEFAULT_SAMPLER = "dpm-solver++"
DEFAULT_NUM_INFERENCE_STEPS = 40  # of samplers that are not in the table


@dataclass(frozen=True)
class Sampler:
    """A sampler that a model can be saved with.

    Args:
        make: Returns an EDM scheduler: one with the preconditioning of Karras et al. 2022 (table 1), whose ``step``
            takes a ``generator``.
        num_inference_steps: Steps it takes unless told otherwise.
    """

    make: Callable[[], SchedulerMixin]
    num_inference_steps: int


def default_scheduler() -> EDMDPMSolverMultistepScheduler:
    """Make DPM-Solver++ of order 2 at exponentially spaced noise levels, from EDM's 80 down to 0.02.

    EDM ends at 0.002. Noise of 0.02 is two and a half grey levels, which the last step removes: the few steps are
    better spent above it.
    """
    return EDMDPMSolverMultistepScheduler(sigma_min=0.02, sigma_schedule="exponential")


# Samplers by name. An entry added from outside gives its scheduler a default number of steps everywhere; any EDM
# scheduler works without one.
SAMPLERS: dict[str, Sampler] = {
    DEFAULT_SAMPLER: Sampler(default_scheduler, num_inference_steps=10),
    "heun": Sampler(EDMHeunScheduler, num_inference_steps=40),  # the paper's
    "euler": Sampler(EDMEulerScheduler, num_inference_steps=40),
}


def make_scheduler(name: str) -> SchedulerMixin:
    """Make the sampler of a name.

    Raises:
        FDAEError: If `SAMPLERS` has no such name.
    """
    if name not in SAMPLERS:
        raise FDAEError(f"there is no sampler {name!r}: choose from {', '.join(SAMPLERS)}")
    return SAMPLERS[name].make()


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Make sure that a scheduler has EDM's preconditioning, without which the U-Net's samples are noise.

    Raises:
        FDAEError: If it has not, as DDIM, EulerDiscrete or DPMSolverMultistep.
    """
    methods = ("precondition_inputs", "precondition_noise", "precondition_outputs")
    is_edm = all(callable(getattr(type(scheduler), name, None)) for name in methods)
    if is_edm:  # c_noise is ln(sigma) / 4; CosineDPMSolverMultistep has another one
        is_edm = math.isclose(scheduler.precondition_noise(torch.tensor(math.e)), 0.25, abs_tol=1e-4)
    if not is_edm:
        usable = ", ".join(dict.fromkeys(type(sampler.make()).__name__ for sampler in SAMPLERS.values()))
        raise FDAEError(f"{type(scheduler).__name__} is no EDM scheduler, which this U-Net needs: use one of {usable}")


def have_same_settings(scheduler: SchedulerMixin, other: SchedulerMixin) -> bool:
    """Whether two schedulers are of one class and one configuration, and so take the same steps."""

    def settings(scheduler: SchedulerMixin) -> dict:
        return {name: value for name, value in scheduler.config.items() if not name.startswith("_")}

    return type(scheduler) is type(other) and settings(scheduler) == settings(other)


def choose_num_inference_steps(scheduler: SchedulerMixin, num_inference_steps: int | None = None) -> int:
    """Return the given number of steps, else that of the scheduler in `SAMPLERS`.

    The entry with the scheduler's own settings counts; else that of its class, or of the nearest parent class; else
    40, as in the released code.

    Raises:
        FDAEError: If the number is not whole, or fewer steps than the sampler can take; stock samplers would return
            noise.
    """
    if num_inference_steps is None:
        return _default_num_inference_steps(scheduler)
    try:
        num_inference_steps = operator.index(num_inference_steps)
    except TypeError:
        raise FDAEError(f"num_inference_steps must be a whole number, not {num_inference_steps!r}") from None
    # The stock samplers' single exponential level is sigma_min, where the starting noise is not.
    stock = type(scheduler).__module__.startswith("diffusers.")
    fewest = 2 if stock and scheduler.config.get("sigma_schedule") == "exponential" else 1
    if num_inference_steps < fewest:
        raise FDAEError(f"num_inference_steps must be at least {fewest}, got {num_inference_steps}")
    return num_inference_steps


def _default_num_inference_steps(scheduler: SchedulerMixin) -> int:
    known = [(sampler.make(), sampler.num_inference_steps) for sampler in SAMPLERS.values()]
    for sampler, steps in known:
        if have_same_settings(sampler, scheduler):
            return steps
    for parent in type(scheduler).__mro__:
        for sampler, steps in known:
            # By name: where a model brings its own code, a class is defined anew in each of the model's files.
            if type(sampler).__name__ == parent.__name__:
                return steps
    return DEFAULT_NUM_INFERENCE_STEPS
