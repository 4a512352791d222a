import json
import math

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from helpers.models import micro_pipeline

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install .[export]")

from fdae_diffusers import EDMHeunScheduler
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.export.runtime import OnnxCodes, noise_levels, read_description, sample_steps
from fdae_diffusers.export.sampler import describe_sampler

SCHEDULERS = {
    "shipped": EDMDPMSolverMultistepScheduler(sigma_min=0.02, sigma_schedule="exponential"),
    "dpm karras": EDMDPMSolverMultistepScheduler(),
    "dpm to sigma_min": EDMDPMSolverMultistepScheduler(final_sigmas_type="sigma_min"),
    "dpm to sigma_min, second order": EDMDPMSolverMultistepScheduler(
        final_sigmas_type="sigma_min", lower_order_final=False
    ),
    "dpm first order": EDMDPMSolverMultistepScheduler(solver_order=1),
    "euler": EDMEulerScheduler(),
    "euler exponential": EDMEulerScheduler(sigma_schedule="exponential"),
    "heun": EDMHeunScheduler(),
    "heun unclipped": EDMHeunScheduler(clip_sample=False, rho=5.0),
}


def network(x, c_noise):
    """Stands for the U-Net: smooth, and neither linear nor the same at all noise levels."""
    return np.tanh(0.5 * x + c_noise) + 0.1 * x


def sampled_by_torch(scheduler, latents, num_steps):
    scheduler.set_timesteps(num_steps)
    sample = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        output = torch.from_numpy(network(scaled.numpy(), timestep.item()))
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample.numpy()


def denoise(x, sigma):
    variance = sigma**2 + 0.25
    return 0.25 / variance * x + 0.5 * sigma / math.sqrt(variance) * network(
        x / math.sqrt(variance), math.log(sigma) / 4
    )


@pytest.mark.parametrize("num_steps", [3, 10, 20])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_sampler_gives_what_its_scheduler_gives(name, num_steps):
    pipeline = micro_pipeline()
    pipeline.scheduler = SCHEDULERS[name]
    sampler = describe_sampler(pipeline, num_steps)
    latents = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = latents.numpy() * sampler["init_noise_sigma"]
    *_, given = sample_steps(denoise, x, noise_levels(sampler, num_steps), sampler)
    wanted = sampled_by_torch(SCHEDULERS[name], latents, num_steps)
    np.testing.assert_allclose(given, wanted, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "scheduler",
    [
        EDMHeunScheduler(s_churn=10.0),
        EDMHeunScheduler(prediction_type="v_prediction"),
        EDMDPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        EDMDPMSolverMultistepScheduler(solver_order=3),
        EDMDPMSolverMultistepScheduler(thresholding=True),
    ],
)
def test_samplers_that_cannot_be_exported_are_refused(scheduler):
    pipeline = micro_pipeline()
    pipeline.scheduler = scheduler
    with pytest.raises(FDAEError, match=type(scheduler).__name__):
        describe_sampler(pipeline)


def test_too_few_steps_are_refused():
    sampler = {"sigma_min": 0.02, "sigma_max": 80.0, "sigma_schedule": "exponential", "rho": 7, "final_sigma": 0.0}
    with pytest.raises(ValueError, match="1 steps"):
        noise_levels(sampler, 1)


def test_swap_takes_the_named_codes_only():
    a, b = OnnxCodes(np.zeros((2, 3, 4)), np.zeros((2, 3, 5))), OnnxCodes(np.ones((1, 3, 4)), np.ones((1, 3, 5)))
    swapped = a.swap(b, content=[0, 2], mask="all")
    np.testing.assert_array_equal(swapped.content.mean((0, 2)), [1, 0, 1])
    assert swapped.mask.all()
    assert not a.content.any()
    with pytest.raises(ValueError, match="concept 3"):
        a.swap(b, content=3)
    with pytest.raises(ValueError, match="single concept"):
        OnnxCodes(a.content[:, :1]).swap(OnnxCodes(b.content[:, :1]), mask=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.json").unlink(), "no exported model"),
        (lambda folder: (folder / "model.json").write_text("{"), "no exported model"),
        (lambda folder: (folder / "model.json").write_text("[]"), "no exported model"),
        (lambda folder: (folder / "unet.onnx").unlink(), "missing"),
        (lambda folder: (folder / "unet.onnx").write_bytes(b"short"), "damaged"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, damage, message):
    write_description(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_description(tmp_path)


def test_a_folder_of_another_version_is_refused(tmp_path):
    write_description(tmp_path, format_version=99)
    with pytest.raises(ValueError, match="version 99"):
        read_description(tmp_path)


def write_description(folder, **changes):
    for part in ("encoder", "decoder", "unet"):
        (folder / f"{part}.onnx").write_bytes(b"network")
    files = {part: {"name": f"{part}.onnx", "bytes": 7} for part in ("encoder", "decoder", "unet")}
    (folder / "model.json").write_text(
        json.dumps({"format": "fdae-onnx", "format_version": 1, "files": files} | changes)
    )
