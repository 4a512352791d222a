import math

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

from fdae_diffusers import EDMHeunScheduler
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.schedulers.inversion import invert_sampler


def no_output(sample, timestep):
    """The network F whose denoised image is the posterior mean of normal data with deviation sigma_data."""
    return torch.zeros_like(sample)


def decibels(images, others):
    return -10 * (images - others).square().mean().log10()


def test_normal_data_are_scaled_up_as_the_solution_says(images):
    # D = x * sigma_data^2 / (sigma_data^2 + sigma^2) has the solution x(sigma) ~ sqrt(sigma_data^2 + sigma^2).
    sample = images * 2 - 1
    latents = invert_sampler(EDMHeunScheduler(), no_output, sample, num_inference_steps=80)
    factor = math.sqrt((0.5**2 + 80**2) / (0.5**2 + 0.002**2)) / 80
    torch.testing.assert_close(latents, factor * sample, atol=0, rtol=5e-3)


@pytest.mark.parametrize("clip_sample", [True, False])
def test_images_come_back_from_their_own_noise_and_not_from_other_noise(pipeline, images, clip_sample):
    pipeline.scheduler = EDMHeunScheduler(clip_sample=clip_sample)
    images, options = images[:2], {"num_inference_steps": 20, "output_type": "pt"}
    again = pipeline(images, latents=pipeline.invert(images, num_inference_steps=20), **options).images
    other = pipeline(images, generator=torch.Generator().manual_seed(0), **options).images
    assert decibels(again, images) > 40
    assert decibels(other, images) < 20


@pytest.mark.parametrize("scheduler_class", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_stock_schedulers_are_inverted(pipeline, images, scheduler_class):
    pipeline.scheduler = scheduler_class.from_config(EDMHeunScheduler(clip_sample=False).config)
    latents = pipeline.invert(images[:1], num_inference_steps=40)
    again = pipeline(images[:1], latents=latents, num_inference_steps=40, output_type="pt").images
    assert decibels(again, images[:1]) > 25


def test_inversion_depends_on_the_codes(pipeline, images):
    codes = pipeline.encode(images[:2])
    own = pipeline.invert(images[:2], num_inference_steps=3)
    assert torch.equal(own, pipeline.invert(images[:2], codes, num_inference_steps=3))
    assert not torch.equal(own, pipeline.invert(images[:2], pipeline.encode(images[2:4]), num_inference_steps=3))
    with pytest.raises(ValueError, match="codes of 2 images for 5"):
        pipeline.invert(images, codes)


def test_swap_from_the_own_noise_leaves_what_is_not_swapped(pipeline, images):
    source, target = images[:2], images[2:4]
    options = {"num_inference_steps": 12, "output_type": "pt"}
    unswapped = pipeline.swap(source, source, content="all", keep_noise=True, **options)
    assert decibels(unswapped, source) > 30
    swapped = pipeline.swap(source, target, mask="all", keep_noise=True, **options)
    assert not torch.equal(swapped, unswapped)
    codes = pipeline.encode(source)
    latents = pipeline.invert(source, codes, num_inference_steps=12)
    swapped_codes = codes.swap(pipeline.encode(target), mask="all")
    assert torch.equal(swapped, pipeline(codes=swapped_codes, latents=latents, **options).images)


def test_sampler_with_new_noise_at_its_steps_is_refused(pipeline, images):
    pipeline.scheduler = EDMHeunScheduler(s_churn=5.0)
    with pytest.raises(ValueError, match="s_churn"):
        pipeline.invert(images)


def test_bright_images_are_inverted_with_their_own_codes(pipeline, images):
    bright = (images[:2] + 1) / 2  # none of their pixel values is negative
    expected = pipeline.invert(bright, pipeline.encode(bright), num_inference_steps=3)
    torch.testing.assert_close(pipeline.invert(bright, num_inference_steps=3), expected)


@pytest.mark.parametrize("scheduler_class", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_settings_of_another_sampler_do_not_count(pipeline, images, tmp_path, scheduler_class):
    EDMHeunScheduler(s_churn=10, clip_sample_range=0.1).save_pretrained(tmp_path)
    plain = scheduler_class.from_config(EDMHeunScheduler().config)
    latents = []
    for pipeline.scheduler in (plain, scheduler_class.from_config(EDMHeunScheduler.load_config(tmp_path))):
        latents.append(pipeline.invert(images[:1], num_inference_steps=5))
    torch.testing.assert_close(*latents)


def test_stochastic_solvers_are_refused(pipeline, images):
    pipeline.scheduler = EDMDPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")
    with pytest.raises(FDAEError, match="new noise at its steps"):
        pipeline.invert(images)
