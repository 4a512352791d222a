"""The sampler of a pipeline as plain numbers, for programs without its scheduler."""

from typing import Any

from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

from ..errors import FDAEError
from ..pipeline_fdae import FDAEPipeline
from ..schedulers import EDMHeunScheduler, choose_num_inference_steps

DPM_FIRST_ORDER_END = 15  # below so many steps, DPM-Solver++ ends with a step of first order, for stability


def describe_sampler(pipeline: FDAEPipeline, num_inference_steps: int | None = None) -> dict[str, Any]:
    """Describe the sampler of a pipeline as `model.json` does.

    Args:
        pipeline: The pipeline.
        num_inference_steps: Steps of the sampler, the pipeline's by default.

    Returns:
        algorithm (``"euler"``, ``"heun"``, ``"dpmsolver++"``), num_inference_steps, init_noise_sigma, clip_sample,
        first_order_end_below, and of the noise levels sigma_min, sigma_max, sigma_schedule, rho, final_sigma.

    Raises:
        FDAEError: If there is no such sampler outside of torch, or the number of steps is too small.
    """
    scheduler, config = pipeline.scheduler, pipeline.scheduler.config
    saved_steps = pipeline.config.get("num_inference_steps")
    steps = choose_num_inference_steps(scheduler, num_inference_steps or saved_steps)
    scheduler.set_timesteps(steps)
    return {
        "algorithm": _algorithm(pipeline),
        "num_inference_steps": steps,
        "init_noise_sigma": float(scheduler.init_noise_sigma),
        "clip_sample": bool(config.get("clip_sample", False)),
        "first_order_end_below": _first_order_end_below(config),
        "sigma_min": config.sigma_min,
        "sigma_max": config.sigma_max,
        "sigma_schedule": config.sigma_schedule,
        "rho": config.rho,
        "final_sigma": 0.0 if config.final_sigmas_type == "zero" else config.sigma_min,
    }


def _algorithm(pipeline: FDAEPipeline) -> str:
    """The algorithm's name; stochastic ones and rare variants are refused."""
    scheduler, config = pipeline.scheduler, pipeline.scheduler.config
    if config.prediction_type == "epsilon":
        if isinstance(scheduler, EDMHeunScheduler) and config.s_churn == 0 and config.clip_sample_range == 1:
            return "heun"
        if isinstance(scheduler, EDMDPMSolverMultistepScheduler):
            plain = config.algorithm_type == "dpmsolver++" and not config.thresholding
            if plain and config.solver_order == 1:
                return "euler"
            if plain and config.solver_order == 2 and config.solver_type == "midpoint":
                return "dpmsolver++"
        elif type(scheduler) is EDMEulerScheduler:
            return "euler"
    raise FDAEError(
        f"cannot export this {type(scheduler).__name__}: give the pipeline EDMEulerScheduler, EDMHeunScheduler "
        "without churn, or EDMDPMSolverMultistepScheduler of order 1 or 2 without thresholding"
    )


def _first_order_end_below(config: Any) -> int | None:
    """Number of steps below which the last step is of first order; None for always, also if it ends at no noise."""
    if config.get("euler_at_final", False) or config.final_sigmas_type == "zero":
        return None
    return DPM_FIRST_ORDER_END if config.get("lower_order_final", False) else 0
