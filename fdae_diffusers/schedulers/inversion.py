"""Inversion: from an image back to the noise that the sampler makes it from.

The sampler follows the probability-flow ODE, dx / dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, eq. 1 and 3
with sigma(t) = t), from sigma_max down to 0. Here Heun's method follows it upwards through the same noise levels:

    d       = (x - D(x; sigma)) / sigma
    x'      = x + (sigma_next - sigma) * d
    x_next  = x + (sigma_next - sigma) * (d + (x' - D(x'; sigma_next)) / sigma_next) / 2

It starts at the smallest positive level with the image itself: the sampler's last step, from there to zero, has no
inverse, and moves the sample by no more than the little noise of that level. D is clamped as the sampler clamps it,
or the way up would not be the way down.
"""

import inspect
from collections.abc import Callable
from itertools import pairwise

import torch
from diffusers import EDMEulerScheduler

from ..errors import FDAEError

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (scaled sample, timestep) -> output F


def invert_sampler(
    scheduler: EDMEulerScheduler, network: Network, sample: torch.Tensor, num_inference_steps: int
) -> torch.Tensor:
    """Find the starting noise of a sample.

    Args:
        scheduler: Any EDM scheduler without churn; it is left with the timesteps of ``num_inference_steps``.
        network: The network, conditioned as it will be for sampling.
        sample: Pixel values (B, C, H, W) in [-1, 1], float32.
        num_inference_steps: Steps of the sampler that is inverted; this calls the network twice a step.

    Returns:
        (B, C, H, W), to be multiplied by the scheduler's ``init_noise_sigma``.

    Raises:
        FDAEError: If the scheduler adds new noise on its way, which nothing can invert.
    """
    # `from_config` keeps what other classes were set to, and does not act on it.
    followed = inspect.signature(type(scheduler).__init__).parameters
    config = {name: value for name, value in scheduler.config.items() if name in followed}
    if config.get("s_churn", 0) > 0 or config.get("algorithm_type", "").startswith("sde"):
        raise FDAEError("a scheduler that draws new noise at its steps (s_churn > 0, an sde) cannot be inverted")
    scheduler.set_timesteps(num_inference_steps)
    levels = scheduler.sigmas[scheduler.sigmas > 0].unique().to(sample.device)  # ascending, each once

    def derivative(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        output = network(scheduler.precondition_inputs(x, sigma), scheduler.precondition_noise(sigma))
        denoised = scheduler.precondition_outputs(x, output, sigma)
        if config.get("clip_sample", False):
            denoised = denoised.clamp(-config["clip_sample_range"], config["clip_sample_range"])
        return (x - denoised) / sigma

    for sigma, sigma_next in pairwise(levels):
        slope = derivative(sample, sigma)
        proposal = sample + (sigma_next - sigma) * slope
        sample = sample + (sigma_next - sigma) * (slope + derivative(proposal, sigma_next)) / 2
    return sample / scheduler.init_noise_sigma
