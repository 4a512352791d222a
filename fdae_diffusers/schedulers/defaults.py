"""The sampler that new models come with, and the steps a sampler takes unless told; docs/speed.md has the curve."""

from collections.abc import Callable
from dataclasses import dataclass

from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..errors import FDAEError
from .edm_heun import EDMHeunScheduler


def default_scheduler() -> EDMDPMSolverMultistepScheduler:
    """DPM-Solver++ of order 2 at exponentially spaced noise levels, from EDM's 80 down to 0.02.

    EDM ends at 0.002. Noise of 0.02 is two and a half grey levels, which the last step takes off: the few steps are
    better spent above it.
    """
    return EDMDPMSolverMultistepScheduler(sigma_min=0.02, sigma_schedule="exponential")


DEFAULT_SAMPLER = "dpm-solver++"


@dataclass(frozen=True)
class Sampler:
    """A sampler that models can be saved with.

    Attributes:
        make: Makes its scheduler.
        num_inference_steps: Steps that it takes unless told.
    """

    make: Callable[[], SchedulerMixin]
    num_inference_steps: int


SAMPLERS: dict[str, Sampler] = {
    DEFAULT_SAMPLER: Sampler(default_scheduler, 10),
    "heun": Sampler(EDMHeunScheduler, 40),
    "euler": Sampler(EDMEulerScheduler, 40),
}


def choose_num_inference_steps(scheduler: SchedulerMixin, num_inference_steps: int | None = None) -> int:
    """The given number of steps, else the sampler's own.

    That is 10 for DPM-Solver++, enough at the noise levels of :func:`default_scheduler`; for others 40, as in the
    released code.

    Raises:
        FDAEError: If fewer steps are asked for than the sampler can take; stock samplers would return noise.
    """
    if num_inference_steps is None:
        return 10 if isinstance(scheduler, EDMDPMSolverMultistepScheduler) else 40
    # The stock samplers' single exponential level is sigma_min, where the starting noise is not.
    stock = type(scheduler).__module__.startswith("diffusers.")
    fewest = 2 if stock and scheduler.config.get("sigma_schedule") == "exponential" else 1
    if num_inference_steps < fewest:
        raise FDAEError(f"num_inference_steps must be at least {fewest}, got {num_inference_steps}")
    return num_inference_steps
