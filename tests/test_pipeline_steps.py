import json

import huggingface_hub
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
)
from helpers.fake_hub import FakeHub
from helpers.models import micro_pipeline

from fdae_diffusers import EDMHeunScheduler, FDAECodes, FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.schedulers import default_scheduler


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def count_calls(pipeline, images):
    calls = []
    hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    pipeline(images[:1])
    hook.remove()
    return len(calls)


@pytest.fixture
def with_steps(pipeline):
    """A pipeline that takes 4 steps of Euler's method unless told otherwise."""
    with_steps = FDAEPipeline(pipeline.unet, pipeline.encoder, EDMEulerScheduler(), num_inference_steps=4)
    with_steps.set_progress_bar_config(disable=True)
    return with_steps


@pytest.mark.parametrize("loader", [FDAEPipeline, DiffusionPipeline])
def test_number_of_steps_is_saved_with_the_model(with_steps, images, tmp_path, monkeypatch, loader):
    with_steps.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model_index.json").read_text())["num_inference_steps"] == 4
    loaded = [loader.from_pretrained(tmp_path / "model")]
    with FakeHub() as hub:
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        hub.push("org/model", tmp_path / "model")
        loaded.append(loader.from_pretrained("org/model"))
        huggingface_hub.close_session()
    for pipeline in (with_steps, *loaded):
        pipeline.set_progress_bar_config(disable=True)
        assert pipeline.default_num_inference_steps == count_calls(pipeline, images) == 4
        assert set(pipeline.components) == {"unet", "encoder", "scheduler"}
    assert loader.from_pretrained(tmp_path / "model", num_inference_steps=3).default_num_inference_steps == 3


def test_model_without_a_number_of_steps_loads_as_before(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    for change in ({}, {"num_inference_steps": None}):
        index.pop("num_inference_steps", None)
        (tmp_path / "model_index.json").write_text(json.dumps({**index, **change}))
        assert FDAEPipeline.from_pretrained(tmp_path).default_num_inference_steps == 40


def test_another_sampler_takes_its_own_number_of_steps(with_steps, tmp_path):
    own = with_steps.scheduler
    with_steps.scheduler = default_scheduler()
    assert with_steps.default_num_inference_steps == 10
    with_steps.save_pretrained(tmp_path)
    assert FDAEPipeline.from_pretrained(tmp_path).default_num_inference_steps == 10
    with_steps.scheduler = EDMEulerScheduler(sigma_min=0.1)
    assert with_steps.default_num_inference_steps == 40
    for same in (EDMEulerScheduler.from_config(own.config), own):
        with_steps.scheduler = same
        assert with_steps.default_num_inference_steps == 4


def test_steps_that_the_sampler_cannot_take_are_not_saved(pipeline):
    for steps in (0, 2.5):
        with pytest.raises(FDAEError, match="num_inference_steps"):
            FDAEPipeline(pipeline.unet, pipeline.encoder, EDMHeunScheduler(), num_inference_steps=steps)


# --- Mistakes


class OtherNoiseInput(EDMEulerScheduler):
    """Tells the network the noise level as CosineDPMSolverMultistepScheduler does, which is not EDM's way."""

    def precondition_noise(self, sigma):
        return sigma.atan() / np.pi * 2


@pytest.mark.parametrize(
    "scheduler_class", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler, OtherNoiseInput]
)
def test_schedulers_that_are_not_edm_are_refused(pipeline, images, scheduler_class):
    scheduler = scheduler_class()
    with pytest.raises(FDAEError, match=f"{scheduler_class.__name__}.*EDMHeunScheduler"):
        FDAEPipeline(pipeline.unet, pipeline.encoder, scheduler)
    codes = pipeline.encode(images)
    pipeline.scheduler = scheduler
    for call in (
        lambda: pipeline(images),
        lambda: pipeline.decode(codes, 2),
        lambda: pipeline.invert(images),
        lambda: pipeline.swap(images, images, content=0),
        lambda: pipeline.swap_grid(images),
    ):
        with pytest.raises(FDAEError, match=scheduler_class.__name__):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pipe, codes, images: pipe(codes=images), "a Tensor is no codes"),
        (lambda pipe, codes, images: pipe.decode(images), "a Tensor is no codes"),
        (lambda pipe, codes, images: pipe.decode_masks(images), "a Tensor is no codes"),
        (lambda pipe, codes, images: pipe.decode_masks(PIL.Image.new("RGB", (8, 8))), "a Image is no codes"),
        (lambda pipe, codes, images: pipe.invert(images, images), "a Tensor is no codes"),
        (lambda pipe, codes, images: pipe(codes), "codes=codes"),
        (lambda pipe, codes, images: pipe.encode(codes), "codes=codes"),
        (lambda pipe, codes, images: pipe(images, generator=0), "torch.Generator"),
        (lambda pipe, codes, images: pipe(images, generator=[0] * 5), "torch.Generator"),
        (lambda pipe, codes, images: pipe.decode(codes, generator=0), "torch.Generator"),
        (lambda pipe, codes, images: pipe(images, num_inference_steps=2.5), "2.5"),
        (lambda pipe, codes, images: pipe(images, num_inference_steps="2"), "'2'"),
        (lambda pipe, codes, images: pipe(images, latents=np.zeros((5, 3, 16, 16))), "ndarray"),
        (lambda pipe, codes, images: pipe(images, latents=torch.zeros(2, 3, 16, 16)), r"\(5, 3, 16, 16\)"),
        (lambda pipe, codes, images: pipe.decode(codes, output_type="jpeg"), "jpeg"),
        (lambda pipe, codes, images: pipe.swap(images, images), "content="),
        (lambda pipe, codes, images: pipe.swap(images, images, content="wall"), "wall"),
        (lambda pipe, codes, images: pipe.swap(images, images, mask=9), "9"),
    ],
)
def test_mistakes_are_one_clear_line(pipeline, images, call, message):
    with pytest.raises(FDAEError, match=message) as caught:
        call(pipeline, pipeline.encode(images), images)
    assert "\n" not in str(caught.value)


def test_codes_of_content_and_masks_that_differ_in_size_pass_through_everything(images, tmp_path):
    pipeline = micro_pipeline(content_dim=7, mask_dim=4)
    options = {"num_inference_steps": 1, "output_type": "pt"}
    codes = pipeline.encode(images)
    assert (codes.content_dim, codes.mask_dim) == (7, 4)
    codes.save(tmp_path / "codes.safetensors")
    stored = FDAECodes.unstack(FDAECodes.load(tmp_path / "codes.safetensors").stack(), 3, 7, 4)
    noise = pipeline.prepare_latents(5, seeded())
    reconstructed = pipeline(images, latents=noise, **options).images
    assert torch.equal(pipeline.decode(stored, latents=noise, **options), reconstructed)
    assert pipeline.swap_grid(images[:2], **options).shape == (2, 2, 3, 16, 16)
    assert pipeline.swap(images[:4], images[4:], mask=0, **options).shape == (4, 3, 16, 16)
