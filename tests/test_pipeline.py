import json

import numpy as np
import PIL.Image
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import (
    DiffusionPipeline,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
)
from helpers.models import micro_pipeline

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEPipeline, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.schedulers import default_scheduler


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_encode_takes_pictures_arrays_and_tensors_alike(pipeline):
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    array = np.array(picture)
    codes = pipeline.encode(picture)
    assert codes.content.shape == (1, 3, 6)
    assert codes.mask.shape == (1, 3, 6)
    for same in (array, [picture], array / 255.0, torch.from_numpy(array).permute(2, 0, 1) / 255):
        torch.testing.assert_close(pipeline.encode(same).content, codes.content)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_pictures_of_any_mode_and_size_are_reconstructed(pipeline, mode):
    output = pipeline(PIL.Image.new(mode, (40, 23)), num_inference_steps=2)
    assert output.images[0].size == (16, 16)
    assert output.images[0].mode == "RGB"


def test_reconstruction_equals_decoding_the_codes(pipeline, images):
    reconstructed = pipeline(images, num_inference_steps=3, generator=seeded(), output_type="pt")
    codes = pipeline.encode(images)
    decoded = pipeline(codes=codes, num_inference_steps=3, generator=seeded(), output_type="pt")
    assert torch.equal(reconstructed.images, decoded.images)
    assert torch.equal(reconstructed.masks, pipeline.decode_masks(codes))
    torch.testing.assert_close(reconstructed.masks.sum(1), torch.ones(5, 16, 16))
    assert reconstructed.images.min() >= 0
    assert reconstructed.images.max() <= 1


def test_networks_of_the_encoder_run_once_per_call(pipeline, images):
    calls = {"image_encoder": 0, "mask_decoder": 0}
    for name in calls:

        def count(*_, name=name):
            calls[name] += 1

        getattr(pipeline.encoder, name).register_forward_hook(count)
    pipeline(images, num_inference_steps=4)
    assert calls == {"image_encoder": 1, "mask_decoder": 1}


def test_output_types_hold_the_same_picture(pipeline, images):
    as_type = {
        kind: pipeline(images, num_inference_steps=2, generator=seeded(), output_type=kind).images
        for kind in ("pil", "np", "pt")
    }
    assert as_type["np"].shape == (5, 16, 16, 3)
    assert as_type["pt"].shape == (5, 3, 16, 16)
    np.testing.assert_allclose(as_type["np"], as_type["pt"].permute(0, 2, 3, 1).numpy(), atol=1e-6)
    for picture, array in zip(as_type["pil"], as_type["np"], strict=True):
        assert np.abs(np.asarray(picture) / 255 - array).max() <= 0.5 / 255 + 1e-6


def test_generator_per_image_does_not_depend_on_the_batch(pipeline, images):
    together = pipeline(
        images, num_inference_steps=2, generator=[seeded(i) for i in range(5)], output_type="pt"
    ).images
    for i in range(5):
        alone = pipeline(images[i : i + 1], num_inference_steps=2, generator=seeded(i), output_type="pt").images
        torch.testing.assert_close(alone[0], together[i], atol=1e-3, rtol=0)


def test_latents_are_standard_normal_starting_noise(pipeline, images):
    codes = pipeline.encode(images)
    noise = torch.randn(5, 3, 16, 16, generator=seeded(3))
    given = pipeline(codes=codes, num_inference_steps=2, latents=noise, output_type="pt").images
    drawn = pipeline(codes=codes, num_inference_steps=2, generator=seeded(3), output_type="pt").images
    assert torch.equal(given, drawn)


def test_swap_redraws_the_source_with_codes_of_the_target(pipeline, images):
    source, target = images[:2], images[2:4]
    swapped = pipeline.swap(
        source, target, content=[1], mask="all", num_inference_steps=2, generator=seeded(), output_type="pt"
    )
    codes = pipeline.encode(source).swap(pipeline.encode(target), content=[1], mask="all")
    expected = pipeline(codes=codes, num_inference_steps=2, generator=seeded(), output_type="pt").images
    assert torch.equal(swapped, expected)
    unswapped = pipeline(source, num_inference_steps=2, generator=seeded(), output_type="pt").images
    assert not torch.equal(swapped, unswapped)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_swap_grid_has_content_in_rows_and_masks_in_columns(pipeline, images, batch_size):
    sources = images[:3]
    grid = pipeline.swap_grid(
        sources, num_inference_steps=2, generator=seeded(), output_type="pt", batch_size=batch_size
    )
    assert grid.shape == (3, 3, 3, 16, 16)
    codes = pipeline.encode(sources)
    noise = torch.randn(1, 3, 16, 16, generator=seeded())
    for row, column in ((0, 2), (1, 1), (2, 0)):
        cell = codes[row].swap(codes[column], mask="all")
        expected = pipeline(codes=cell, num_inference_steps=2, latents=noise, output_type="pt").images[0]
        torch.testing.assert_close(grid[row, column], expected, atol=2e-4, rtol=0)


def test_swap_grid_output_types(pipeline, images):
    rows = pipeline.swap_grid(images[:2], num_inference_steps=1)
    assert [[picture.size for picture in row] for row in rows] == [[(16, 16)] * 2] * 2
    assert pipeline.swap_grid(images[:2], num_inference_steps=1, output_type="np").shape == (2, 2, 16, 16, 3)


def test_callback_sees_and_replaces_latents(pipeline, images):
    steps = []

    def stop_noise(pipe, step, timestep, tensors):
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    output = pipeline(images, num_inference_steps=2, output_type="pt", callback_on_step_end=stop_noise)
    assert steps == [0, 1, 2]  # Heun: 2n - 1 network calls
    assert torch.equal(output.images, torch.full_like(output.images, 0.5))


def test_callback_is_given_what_it_asks_for(pipeline, images):
    def no_condition(pipe, step, timestep, tensors):
        assert list(tensors) == ["condition_map"]
        return {"condition_map": torch.zeros_like(tensors["condition_map"])}

    options = {"num_inference_steps": 2, "output_type": "pt", "callback_on_step_end": no_condition}
    names = {"callback_on_step_end_tensor_inputs": ["condition_map"]}
    changed = pipeline(images, generator=seeded(), **options, **names).images
    unchanged = pipeline(images, generator=seeded(), num_inference_steps=2, output_type="pt").images
    assert not torch.equal(changed, unchanged)
    with pytest.raises(ValueError, match="tensor_inputs must be among"):
        pipeline(images, **options, callback_on_step_end_tensor_inputs=["masks"])


def test_churn_is_repeatable_with_a_generator(pipeline, images):
    pipeline.scheduler = EDMHeunScheduler(s_churn=10.0)
    draws = [
        pipeline.swap_grid(images[:2], num_inference_steps=3, generator=seeded(i), output_type="pt") for i in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_hooks_of_the_encoder_run_for_every_call(pipeline, images):
    # Model offloading relies on it: a hook on the encoder moves it to the device, whichever method is called.
    class Count(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    count = Count()
    add_hook_to_module(pipeline.encoder, count)
    codes = pipeline.encode(images)
    assert count.calls == 1
    pipeline.decode_masks(codes)
    assert count.calls == 2


@pytest.mark.parametrize("scheduler_class", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_stock_edm_schedulers_swap_in(pipeline, images, scheduler_class):
    # With many steps all solvers reach the same image.
    codes = pipeline.encode(images)
    pipeline.scheduler = EDMHeunScheduler(clip_sample=False)
    noise = torch.randn(5, 3, 16, 16, generator=seeded())
    reference = pipeline(codes=codes, num_inference_steps=60, latents=noise, output_type="pt").images
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    other = pipeline(codes=codes, num_inference_steps=150, latents=noise, output_type="pt").images
    assert (other - reference).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("scheduler", "network_calls"), [(EDMHeunScheduler(), 79), (EDMEulerScheduler(), 40), (default_scheduler(), 10)]
)
def test_number_of_steps_goes_by_the_sampler(pipeline, images, scheduler, network_calls):
    pipeline.scheduler = scheduler
    calls = []
    pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    pipeline(images[:1])
    assert len(calls) == network_calls


@pytest.mark.parametrize(
    ("scheduler", "fewest"), [(EDMHeunScheduler(), 1), (EDMEulerScheduler(), 1), (default_scheduler(), 2)]
)
def test_fewer_steps_than_a_sampler_can_take_are_refused(pipeline, images, scheduler, fewest):
    pipeline.scheduler = scheduler
    for call in (pipeline, pipeline.invert, pipeline.swap_grid):
        call(images, num_inference_steps=fewest)
        with pytest.raises(FDAEError, match=f"num_inference_steps must be at least {fewest}, got {fewest - 1}"):
            call(images, num_inference_steps=fewest - 1)


def test_default_sampler_comes_near_many_steps_of_heun_and_back(pipeline, images):
    noise = torch.randn(5, 3, 16, 16, generator=seeded())
    reference = pipeline(images, latents=noise, output_type="pt").images
    pipeline.scheduler = default_scheduler()
    assert (pipeline(images, latents=noise, output_type="pt").images - reference).abs().mean() < 0.02
    again = pipeline(images, latents=pipeline.invert(images), output_type="pt").images
    assert (again - images).abs().mean() < 0.02


def test_pipeline_survives_saving(pipeline, images, tmp_path):
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["encoder"] == ["fdae_diffusers", "CMFNet"]
    assert index["scheduler"] == ["fdae_diffusers", "EDMHeunScheduler"]
    assert index["unet"] == ["fdae_diffusers", "FDAEUNet2DModel"]
    expected = pipeline(images, num_inference_steps=2, generator=seeded(), output_type="pt").images
    for loader in (FDAEPipeline, DiffusionPipeline):
        again = loader.from_pretrained(tmp_path)
        again.set_progress_bar_config(disable=True)
        assert isinstance(again, FDAEPipeline)
        assert torch.equal(again(images, num_inference_steps=2, generator=seeded(), output_type="pt").images, expected)
    assert isinstance(CMFNet.from_pretrained(tmp_path, subfolder="encoder"), CMFNet)
    assert isinstance(FDAEUNet2DModel.from_pretrained(tmp_path, subfolder="unet"), FDAEUNet2DModel)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(pipeline, images, tmp_path, dtype):
    expected = pipeline(images, num_inference_steps=3, generator=seeded(), output_type="pt").images
    pipeline.save_pretrained(tmp_path)
    half = FDAEPipeline.from_pretrained(tmp_path, dtype=dtype)
    half.set_progress_bar_config(disable=True)
    output = half(images, num_inference_steps=3, generator=seeded(), output_type="pt")
    assert output.codes.content.dtype == dtype
    assert output.masks.dtype == half.decode_masks(output.codes).dtype == torch.float32
    assert (output.images.float() - expected).abs().mean() < 0.05


def test_single_concept_pipeline_reconstructs_but_has_no_swap_grid(images):
    pipeline = micro_pipeline(num_concepts=1)
    output = pipeline(images, num_inference_steps=2, output_type="pt")
    assert output.codes.mask is None
    assert torch.equal(output.masks, torch.ones(5, 1, 16, 16))
    with pytest.raises(ValueError, match="single-concept"):
        pipeline.swap_grid(images)


def test_wrong_calls_say_what_to_do(pipeline, images):
    codes = pipeline.encode(images)
    with pytest.raises(ValueError, match="either images to reconstruct or codes"):
        pipeline()
    with pytest.raises(ValueError, match="either images to reconstruct or codes"):
        pipeline(images, codes=codes)
    with pytest.raises(FDAEError, match="jpeg"):
        pipeline(images, output_type="jpeg")
    with pytest.raises(ValueError, match="2 generators for 5 images"):
        pipeline(images, generator=[seeded(), seeded()])
    with pytest.raises(ValueError, match="latents must have shape"):
        pipeline(images, latents=torch.zeros(5, 3, 8, 8))


def test_networks_of_different_models_are_refused(pipeline):
    with pytest.raises(ValueError, match="condition_channels is 4 and 8"):
        FDAEPipeline(pipeline.unet, micro_pipeline(condition_channels=8).encoder, EDMHeunScheduler())


def test_one_network_may_be_in_half_precision(pipeline, images):
    expected = pipeline(images, num_inference_steps=2, generator=seeded(), output_type="pt").images
    pipeline.unet.to(torch.bfloat16)
    output = pipeline(images, num_inference_steps=2, generator=seeded(), output_type="pt").images
    assert (output - expected).abs().mean() < 0.02


def test_swap_gives_images_as_asked_and_refuses_noise_given_twice(pipeline, images):
    options = {"content": 1, "num_inference_steps": 2, "output_type": "pt"}
    assert pipeline.swap(images[:1], images[1:2], **options).shape == (1, 3, 16, 16)
    with pytest.raises(FDAEError, match="latents or keep_noise"):
        pipeline.swap(images[:1], images[1:2], keep_noise=True, latents=torch.zeros(1, 3, 16, 16), **options)
    with pytest.raises(FDAEError, match="no image given"):
        pipeline(codes=pipeline.encode(images)[0:0])


# --- Decoding


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_decoding_equals_the_call_whatever_the_batch(pipeline, images, batch_size):
    codes = pipeline.encode(images)
    options = {"num_inference_steps": 2, "output_type": "pt"}
    for generator in (seeded, lambda: [seeded(i) for i in range(5)]):
        expected = pipeline(codes=codes, generator=generator(), **options).images
        decoded = pipeline.decode(codes, generator=generator(), batch_size=batch_size, **options)
        torch.testing.assert_close(decoded, expected, atol=1e-3, rtol=0)
    assert len(pipeline.decode(codes, 1, batch_size=batch_size)) == 5


def test_decoding_holds_so_many_images_at_a_time(pipeline, images):
    sizes = []
    pipeline.unet.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    pipeline.decode(pipeline.encode(images), num_inference_steps=1, batch_size=2)
    assert sizes == [2, 2, 1]
    with pytest.raises(FDAEError, match="batch_size=0"):
        pipeline.decode(pipeline.encode(images), batch_size=0)


def test_prepared_latents_are_what_a_call_draws(pipeline, images):
    latents = pipeline.prepare_latents(5, seeded(3))
    assert latents.shape == (5, 3, 16, 16)
    assert latents.dtype == torch.float32
    given = pipeline(images, num_inference_steps=2, latents=latents, output_type="pt").images
    assert torch.equal(given, pipeline(images, num_inference_steps=2, generator=seeded(3), output_type="pt").images)
    one = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(pipeline.prepare_latents(4, latents=one), one.float().expand(4, -1, -1, -1))


def test_latent_output_is_what_the_sampler_ends_with(pipeline, images):
    pipeline.scheduler = EDMHeunScheduler(clip_sample=False)
    latents = pipeline(images, num_inference_steps=2, generator=seeded(), output_type="latent").images
    pictures = pipeline(images, num_inference_steps=2, generator=seeded(), output_type="pt").images
    assert latents.abs().max() > 1
    torch.testing.assert_close((latents / 2 + 0.5).clamp(0, 1), pictures)
    grid = pipeline.swap_grid(images[:2], num_inference_steps=2, output_type="latent")
    assert grid.shape == (2, 2, 3, 16, 16)


def test_callback_may_change_the_last_latents(pipeline, images):
    def erase_last(pipe, step, timestep, tensors):
        if step == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    output = pipeline(
        images,
        num_inference_steps=3,
        output_type="latent",
        callback_on_step_end=erase_last,
        callback_on_step_end_tensor_inputs=pipeline._callback_tensor_inputs,
    )[0]
    assert not output.any()


def test_nothing_is_computed_twice(pipeline, images, monkeypatch):
    calls = []
    read_images = pipeline._read_images
    monkeypatch.setattr(pipeline, "_read_images", lambda images: calls.append("read") or read_images(images))
    pipeline.encoder.image_encoder.register_forward_hook(lambda *_: calls.append("encode"))
    pipeline.encoder.mask_decoder.register_forward_hook(lambda *_: calls.append("masks"))

    def called(function, *args, **options):
        calls.clear()
        function(*args, num_inference_steps=1, **options)
        return sorted(calls)

    codes = pipeline.encode(images)
    assert called(pipeline.invert, images) == ["encode", "masks", "read"]
    assert called(pipeline.invert, images, codes) == ["masks", "read"]
    assert called(pipeline.decode, codes) == ["masks"]
    assert called(pipeline.swap_grid, images[:2]) == ["encode", "masks", "read"]
    # Source and target are read and encoded; masks are decoded of the source, for its noise, and of the result.
    twice = ["encode", "encode", "masks", "masks", "read", "read"]
    assert called(pipeline.swap, images[:1], images[1:2], content=0, keep_noise=True) == twice


# --- Number of steps
