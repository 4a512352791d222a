"""Parity with the released implementation: its outputs, stored, for weights made again from their seeds."""

import pytest
import torch
from helpers.paths import FIXTURES, SHARED
from helpers.released_weights import released_weights
from safetensors.torch import load_file, save_file

from fdae_diffusers import FDAEObjective
from fdae_diffusers.conversion.checkpoint import ConversionError, convert_official_checkpoint
from fdae_diffusers.losses import reconstruction_loss

ARGS = {"num_head_channels": 32}
STORED_WEIGHTS = SHARED / "parity" / "official_tiny_weights.safetensors"


@pytest.fixture(scope="module")
def reference():
    return load_file(FIXTURES / "parity" / "outputs.safetensors")


@pytest.fixture(scope="module")
def all_weights():
    return released_weights()


@pytest.fixture
def state(all_weights):
    return dict(all_weights)


@pytest.fixture(scope="module")
def converted(all_weights):
    pipeline = convert_official_checkpoint(dict(all_weights), ARGS)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def assert_agrees(actual, expected):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() < 1e-4


@torch.no_grad()
def test_codes_masks_and_condition_map_agree(converted, reference):
    output = converted.encoder(reference["images"])
    assert_agrees(converted.encoder.image_encoder(reference["images"]), reference["pooled_features"])
    for name in ("content_codes", "mask_codes", "masks"):
        assert_agrees(output[name], reference[name])
    assert_agrees(output.condition_map[:, :, ::8, ::8], reference["condition_map"])  # every eighth pixel is stored


@torch.no_grad()
def test_denoised_image_and_losses_agree(converted, reference):
    objective = FDAEObjective(converted.unet, converted.encoder, converted.scheduler)
    pixel_values, noise = reference["images"], reference["noise"]
    sigma = reference["sigmas"].view(-1, 1, 1, 1)
    condition_map = converted.encoder(pixel_values).condition_map
    denoised = objective.denoise(pixel_values + sigma * noise, sigma, condition_map=condition_map)
    assert_agrees(denoised, reference["denoised"])
    assert_agrees(reconstruction_loss(denoised, pixel_values, sigma), reference["loss/mse"])

    losses = objective.loss(pixel_values, sigma, noise)
    assert_agrees(losses.terms["content_decorrelation"], reference["loss/content_decorrelation_loss"][0])
    assert_agrees(losses.terms["mask_entropy"], reference["loss/mask_entropy_loss"][0])
    assert_agrees(losses.loss, reference["loss/loss"].mean())


@pytest.mark.parametrize(("clip_sample", "name"), [(True, "heun6_clip"), (False, "heun6_noclip")])
def test_heun_samples_agree(converted, reference, clip_sample, name):
    converted.scheduler.register_to_config(clip_sample=clip_sample)
    steps = []
    output = converted(
        reference["images"],
        num_inference_steps=6,
        latents=reference["noise"],
        output_type="pt",
        callback_on_step_end=lambda pipe, step, timestep, tensors: steps.append(step) or tensors,
    )
    assert len(steps) == 11
    assert_agrees(output.images * 2 - 1, reference[name])


def test_converted_pipeline_survives_saving(converted, reference, tmp_path):
    converted.save_pretrained(tmp_path)
    again = type(converted).from_pretrained(tmp_path)
    assert torch.equal(again.encode(reference["images"]).content, converted.encode(reference["images"]).content)


def test_missing_and_unknown_keys_are_named(state):
    del state["out.0.bias"]
    state["teacher.weight"] = torch.zeros(1)
    with pytest.raises(ConversionError, match=r"missing out\.0\.bias; unknown teacher\.weight"):
        convert_official_checkpoint(state, ARGS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"semantic_group_num": 2}, "has 6 concepts|have 6 concepts"),
        ({"image_size": 32}, "masks of size 64"),
        ({"use_scale_shift_norm": True}, "use_scale_shift_norm"),
    ],
)
def test_arguments_that_contradict_the_weights_are_refused(state, args, message):
    with pytest.raises(ConversionError, match=message):
        convert_official_checkpoint(state, {**ARGS, **args})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_file_is_read_like_a_state_dict(state, tmp_path, reference, suffix):
    path = tmp_path / f"model100000{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    pipeline = convert_official_checkpoint(path, ARGS)
    assert_agrees(pipeline.encode(reference["images"]).content, reference["content_codes"])


def test_files_that_are_no_checkpoint_are_refused(state, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        convert_official_checkpoint(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save({"opt": [1, 2]}, tmp_path / "other.pt")
    save_file({k: state[k] for k in list(state)[:3]}, tmp_path / "part.safetensors")
    for name in ("text.pt", "other.pt", "part.safetensors"):
        with pytest.raises(ConversionError):
            convert_official_checkpoint(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_file_is_refused(state, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ConversionError, match="truncated"):
        convert_official_checkpoint(path, ARGS)


@pytest.mark.skipif(not STORED_WEIGHTS.exists(), reason="needs the stored weights, 38 MB")
def test_weights_from_seeds_are_the_stored_ones(state):
    stored = load_file(STORED_WEIGHTS)
    assert state.keys() == stored.keys()
    for name, expected in stored.items():
        assert state[name].dtype == expected.dtype
        torch.testing.assert_close(state[name], expected, rtol=2**-10, atol=2**-20)  # the last bit in half precision
