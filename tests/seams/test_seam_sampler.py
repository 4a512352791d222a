"""A sampler from outside the package, which shares no class with those of diffusers."""

import math

import pytest
import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from helpers.models import micro_pipeline

from fdae_diffusers import EDMHeunScheduler, FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.schedulers import SAMPLERS, Sampler, choose_num_inference_steps, make_scheduler


class GeometricEuler(SchedulerMixin, ConfigMixin):
    """Euler's method at noise levels of a constant ratio, with the preconditioning of EDM."""

    order = 1

    @register_to_config
    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 80.0, sigma_data: float = 0.5):
        self.init_noise_sigma = sigma_max

    def set_timesteps(self, num_inference_steps, device=None):
        ends = math.log(self.config.sigma_max), math.log(self.config.sigma_min)
        self.sigmas = torch.cat([torch.linspace(*ends, num_inference_steps).exp(), torch.zeros(1)])
        self.timesteps = self.precondition_noise(self.sigmas[:-1]).to(device)
        self.calls = 0

    def precondition_inputs(self, sample, sigma):
        return sample / (sigma**2 + self.config.sigma_data**2) ** 0.5

    def precondition_noise(self, sigma):
        return sigma.log() / 4

    def precondition_outputs(self, sample, model_output, sigma):
        variance, data = sigma**2 + self.config.sigma_data**2, self.config.sigma_data
        return data**2 / variance * sample + sigma * data / variance**0.5 * model_output

    def scale_model_input(self, sample, timestep):
        return self.precondition_inputs(sample, (4 * timestep).exp())

    def step(self, model_output, timestep, sample, generator=None):
        sigma, sigma_next = self.sigmas[self.calls : self.calls + 2]
        self.calls += 1
        denoised = self.precondition_outputs(sample, model_output, sigma)
        return SchedulerOutput(prev_sample=sample + (sigma_next - sigma) * (sample - denoised) / sigma)


@pytest.fixture
def entry(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "geometric", Sampler(GeometricEuler, num_inference_steps=7))


def count_calls(pipeline, image):
    calls = []
    hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    pipeline(image)
    hook.remove()
    return len(calls)


def test_sampler_reaches_the_image_of_the_paper_s_and_finds_the_way_back(images):
    pipeline = micro_pipeline()
    pipeline.scheduler = EDMHeunScheduler(clip_sample=False)
    noise = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = pipeline(images, latents=noise, num_inference_steps=60, output_type="pt").images
    pipeline.scheduler = GeometricEuler()
    found = pipeline(images, latents=noise, num_inference_steps=200, output_type="pt").images
    assert (found - expected).abs().mean() < 0.02
    latents = pipeline.invert(images[:1], num_inference_steps=100)
    again = pipeline(images[:1], latents=latents, num_inference_steps=100, output_type="pt").images
    assert (again - images[:1]).abs().mean() < 0.05
    assert pipeline.swap(images[:1], images[1:2], mask=0, num_inference_steps=2, output_type="pt").isfinite().all()


def test_default_number_of_steps_comes_from_the_table(entry, images):
    pipeline = micro_pipeline()
    pipeline.scheduler = make_scheduler("geometric")
    assert pipeline.default_num_inference_steps == 7
    assert count_calls(pipeline, images[:1]) == 7


def test_sampler_that_is_not_in_the_table_takes_40_steps():
    assert choose_num_inference_steps(GeometricEuler()) == 40


def test_entry_of_a_known_class_counts_for_its_own_settings_alone(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "short", Sampler(lambda: EDMHeunScheduler(sigma_max=10.0), 5))
    assert choose_num_inference_steps(EDMHeunScheduler(sigma_max=10.0)) == 5
    assert choose_num_inference_steps(EDMHeunScheduler()) == 40


def test_unknown_name_lists_all(entry):
    with pytest.raises(FDAEError, match="geometric"):
        make_scheduler("ddim")


def test_pipeline_is_saved_and_loaded_with_it(images, tmp_path):
    pipeline = micro_pipeline()
    pipeline.scheduler = GeometricEuler(sigma_min=0.05)
    pipeline.save_pretrained(tmp_path)
    again = FDAEPipeline.from_pretrained(tmp_path)
    assert type(again.scheduler) is GeometricEuler
    assert again.scheduler.config.sigma_min == 0.05
    assert again(images, num_inference_steps=2, output_type="pt").images.shape == images.shape
