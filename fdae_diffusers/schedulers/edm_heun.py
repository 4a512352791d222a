"""Heun's 2nd order sampler of EDM (Karras et al. 2022, algorithms 1 and 2; https://arxiv.org/abs/2206.00364).

Sampling starts at x_0 = sigma_0 * n, with n standard normal, and takes N steps i = 0 ... N-1:

    gamma_i     = min(s_churn / N, sqrt(2) - 1) if s_tmin <= sigma_i <= s_tmax else 0
    sigma_hat_i = sigma_i + gamma_i * sigma_i
    x_hat_i     = x_i + sqrt(sigma_hat_i^2 - sigma_i^2) * s_noise * eps                   eps standard normal
    d_i         = (x_hat_i - D(x_hat_i; sigma_hat_i)) / sigma_hat_i                       first evaluation
    x_{i+1}     = x_hat_i + (sigma_{i+1} - sigma_hat_i) * d_i                             Euler proposal
    d'_i        = (x_{i+1} - D(x_{i+1}; sigma_{i+1})) / sigma_{i+1}                       second evaluation
    x_{i+1}     = x_hat_i + (sigma_{i+1} - sigma_hat_i) * (d_i + d'_i) / 2

The last step stays with its Euler proposal. With s_churn = 0 this is the deterministic algorithm 1. A loop over
`scheduler.timesteps` calls the network 2N-1 times, at the noise levels

    sigma_hat_0, sigma_1, sigma_hat_1, sigma_2, sigma_hat_2, ..., sigma_{N-1}, sigma_hat_{N-1}

so `step` returns the Euler proposal x_{i+1} after a first evaluation and x_hat_{i+1}, with its new noise, after a
second one. x_hat_0 is Gaussian and needs no draw of its own: `init_noise_sigma` is its standard deviation.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from diffusers import EDMEulerScheduler
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_edm_euler import EDMEulerSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor


class EDMHeunScheduler(EDMEulerScheduler):
    """Heun sampler for EDM-preconditioned networks, two evaluations per step; the sampler of FDAE's published results.

    Preconditioning and noise schedules are inherited. `from_config` swaps with `EDMEulerScheduler` and with
    `EDMDPMSolverMultistepScheduler`, both ways; they log that they ignore clipping and churn, but keep those keys.

        scheduler.set_timesteps(40)
        sample = torch.randn(shape) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:  # 79 evaluations
            output = network(scheduler.scale_model_input(sample, timestep), timestep)
            sample = scheduler.step(output, timestep, sample).prev_sample

    Args:
        sigma_min: Smallest noise level of the schedule before the final one.
        sigma_max: Largest noise level.
        sigma_data: Standard deviation of the data.
        sigma_schedule: `"karras"` or `"exponential"`, how noise levels are spaced.
        num_train_timesteps: Size of the table before `set_timesteps`; EDM training does not use it.
        prediction_type: `"epsilon"` (EDM's parametrization, c_out > 0) or `"v_prediction"` (c_out < 0).
        rho: Exponent of the Karras schedule.
        final_sigmas_type: Noise level after the last step: `"zero"`, or `"sigma_min"`, the last one once more.
        s_churn: Amount of new noise over all steps, 0 for deterministic sampling.
        s_tmin: No new noise below this noise level.
        s_tmax: No new noise above this noise level; `None` for no limit. Infinity is stored as `None`, for JSON.
        s_noise: Factor on the standard deviation of the new noise.
        clip_sample: Clamp the denoised image at every evaluation.
        clip_sample_range: Clamp to [-clip_sample_range, clip_sample_range].
    """

    _compatibles = ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"]  # noqa: RUF012 (declared so in diffusers)
    order = 2
    config: Any  # read by attribute, which diffusers' own annotations of these do not foresee
    num_inference_steps: Any
    _step_index: Any

    @register_to_config
    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        sigma_schedule: Literal["karras", "exponential"] = "karras",
        num_train_timesteps: int = 1000,
        prediction_type: Literal["epsilon", "v_prediction"] = "epsilon",
        rho: float = 7.0,
        final_sigmas_type: Literal["zero", "sigma_min"] = "zero",
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float | None = None,
        s_noise: float = 1.0,
        clip_sample: bool = True,
        clip_sample_range: float = 1.0,
    ):
        super().__init__(
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            sigma_data=sigma_data,
            sigma_schedule=sigma_schedule,
            num_train_timesteps=num_train_timesteps,
            prediction_type=prediction_type,
            rho=rho,
            final_sigmas_type=final_sigmas_type,
        )
        if s_churn < 0 or s_noise < 0:
            raise ValueError(f"s_churn and s_noise must not be negative, got {s_churn} and {s_noise}")
        if s_tmax == math.inf:
            self.register_to_config(s_tmax=None)
        self._init_noise_sigma = sigma_max
        self._x_hat: torch.Tensor | None = None  # between the two evaluations of a step
        self._derivative: torch.Tensor | None = None

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of the sample to start from: sigma_0, and the first step's churn in quadrature."""
        return self._init_noise_sigma

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Sequence[float] | np.ndarray | torch.Tensor | None = None,
    ) -> None:
        """Lay out the 2N-1 evaluations of N steps: `timesteps` (2N-1), which are c_noise, and `sigmas` (2N).

        Args:
            num_inference_steps: The number of steps N, spaced by the configured schedule.
            device: Where to put `timesteps`; `sigmas` stay on the CPU.
            sigmas: Instead, the noise levels sigma_0 > sigma_1 > ... > 0 themselves, one per step. Without a final 0,
                the end is appended as `final_sigmas_type` says.

        Raises:
            ValueError: If not exactly one is given, or that is no step, or not finite, positive and decreasing.
        """
        if (num_inference_steps is None) == (sigmas is None):
            raise ValueError("give either num_inference_steps or sigmas")
        levels = self._schedule(num_inference_steps or 0) if sigmas is None else _as_levels(sigmas)
        if levels[-1] > 0:
            end = levels[-1:] if self.config.final_sigmas_type == "sigma_min" else torch.zeros(1)
            levels = torch.cat([levels, end])
        sigma, sigma_next = levels[:-1], levels[1:]  # (N,) each

        s_tmax = math.inf if self.config.s_tmax is None else self.config.s_tmax
        churned = (self.config.s_tmin <= sigma) & (sigma <= s_tmax)
        gamma = churned.to(sigma.dtype) * min(self.config.s_churn / len(sigma), 2**0.5 - 1)
        sigma_hat = sigma + gamma * sigma
        churn_std = (sigma_hat**2 - sigma**2).sqrt() * self.config.s_noise
        evaluations = torch.stack([sigma_hat, sigma_next], dim=1).flatten()  # (2N,), the end included

        self.num_inference_steps = len(sigma)
        self.sigmas = evaluations.float()
        self.timesteps = self.precondition_noise(evaluations[:-1]).float().to(device)
        self._churn_std = churn_std.tolist()
        self._init_noise_sigma = math.hypot(sigma[0], churn_std[0])
        self._begin_index = self._step_index = self._x_hat = self._derivative = None

    def index_for_timestep(
        self, timestep: float | torch.Tensor, schedule_timesteps: torch.Tensor | None = None
    ) -> int:
        """Return a timestep's place in the table; of two equal ones the second, where a step begins."""
        _reject_integers(timestep)
        try:
            return super().index_for_timestep(timestep, schedule_timesteps)
        except IndexError:
            raise ValueError(f"timestep {float(timestep)} is not in scheduler.timesteps") from None

    def step(  # type: ignore[override, unused-ignore]  # churn is configuration, as the table depends on it
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> EDMEulerSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Move from one evaluation to the next.

        Computes in float32, or in float64 for a float64 sample. Results take the sample's dtype, not the network's:
        with the sample in float32, a network in half precision costs its own rounding only.

        Args:
            model_output: What the network F returned, (B, ...).
            timestep: This evaluation's entry of `timesteps`.
            sample: What the previous call returned as `prev_sample`, (B, ...).
            generator: Source of the new noise if `s_churn` > 0: one for the batch, or a list of one per image.
            return_dict: Return an output object instead of the tuple (prev_sample, pred_original_sample).

        Returns:
            `prev_sample`: the sample at the next evaluation's noise level, which a first evaluation merely proposes;
            `pred_original_sample`: this evaluation's denoised image D, clamped if so configured.

        Raises:
            ValueError: Before `set_timesteps`, at timesteps not in the table, and on beginning at a second evaluation.
        """
        _reject_integers(timestep)
        if self.num_inference_steps is None:
            raise ValueError("call set_timesteps before step")
        if self.step_index is None:
            self._init_step_index(timestep)
        x = sample.to(torch.promote_types(sample.dtype, torch.float32))

        sigma = self.sigmas[self.step_index]
        denoised = self.precondition_outputs(x, model_output.to(x.dtype), sigma)
        if self.config.clip_sample:
            denoised = denoised.clamp(-self.config.clip_sample_range, self.config.clip_sample_range)
        derivative = (x - denoised) / sigma

        if self.step_index % 2 == 0:  # first evaluation
            sigma_hat, sigma_next = sigma, self.sigmas[self.step_index + 1]
            prev_sample = x + (sigma_next - sigma_hat) * derivative
            self._x_hat, self._derivative = x, derivative
        elif self._x_hat is not None and self._derivative is not None:
            sigma_hat, sigma_next = self.sigmas[self.step_index - 1], sigma
            prev_sample = self._x_hat + (sigma_next - sigma_hat) * (self._derivative + derivative) / 2
            churn_std = self._churn_std[self.step_index // 2 + 1]  # of the next step
            if churn_std > 0:
                eps = randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype)
                prev_sample = prev_sample + churn_std * eps
        else:
            raise ValueError("sampling must begin at a step's first evaluation: timesteps[0], [2], [4], ...")

        self._step_index += 1
        if self._step_index == len(self.timesteps):
            self._step_index = self._x_hat = self._derivative = None  # the loop may be run again
        output = EDMEulerSchedulerOutput(prev_sample.to(sample.dtype), denoised.to(sample.dtype))
        return output if return_dict else output.to_tuple()

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return x + sigma * n, (B, ...), with sigma = exp(4 * timesteps); (B,) or one, in the table or not."""
        _reject_integers(timesteps)
        sigma = (4 * timesteps.to(original_samples.device, torch.float32)).exp().to(original_samples.dtype)
        return original_samples + sigma.reshape(-1, *[1] * (original_samples.ndim - 1)) * noise

    def _schedule(self, num_inference_steps: int) -> torch.Tensor:
        """Return sigma_0 ... sigma_{N-1} of the configured schedule in float64."""
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
        ramp = torch.linspace(0, 1, num_inference_steps, dtype=torch.float64)
        karras = self.config.sigma_schedule == "karras"
        levels = self._compute_karras_sigmas(ramp) if karras else self._compute_exponential_sigmas(ramp).double()
        levels[0] = self.config.sigma_max  # exactly; an exponential schedule of one step has sigma_min there
        return levels


def _as_levels(sigmas: Sequence[float] | np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return given noise levels in float64 on the CPU."""
    levels = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu")
    decreasing = levels.ndim == 1 and levels.isfinite().all() and (levels.diff() < 0).all()
    if not decreasing or not levels.any() or levels[-1] < 0:
        raise ValueError(f"sigmas must be finite, positive and strictly decreasing, got {levels.tolist()}")
    return levels


def _reject_integers(timestep: float | torch.Tensor) -> None:
    if not torch.as_tensor(timestep).is_floating_point():
        raise ValueError("timesteps are entries of scheduler.timesteps, which are floats, not indices into it")
