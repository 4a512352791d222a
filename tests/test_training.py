import json

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import MICRO_ENCODER, MICRO_UNET
from safetensors.torch import load_file

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import TrainingConfig, train
from fdae_diffusers.training.checkpoints import find_checkpoint, list_checkpoints


def config_for(output_dir, **settings) -> TrainingConfig:
    defaults = {
        "preset": "tiny-32",
        "unet": MICRO_UNET,
        "encoder": MICRO_ENCODER,
        "dataset_name": "shapes3d-rendered",
        "max_train_samples": 40,
        "output_dir": str(output_dir),
        "max_train_steps": 6,
        "train_batch_size": 8,
        "learning_rate": 1e-3,
        "logging_steps": 2,
        "validation_steps": 0,
        "checkpointing_steps": 0,
        "num_validation_images": 2,
        "num_inference_steps": 2,
        "report_to": "none",
    }
    return TrainingConfig(**{**defaults, **settings})


def weights(output_dir):
    return {
        **load_file(output_dir / "unet" / "diffusion_pytorch_model.safetensors"),
        **load_file(output_dir / "encoder" / "diffusion_pytorch_model.safetensors"),
    }


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(10):
        PIL.Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_training_leaves_a_pipeline_figures_logs_and_checkpoints(tmp_path):
    output_dir = train(
        config_for(tmp_path / "run", report_to="tensorboard", checkpointing_steps=2, validation_steps=3)
    )
    pipeline = FDAEPipeline.from_pretrained(output_dir)
    assert pipeline.encoder.config.num_concepts == 3
    for figure in ("masks", "reconstructions", "swap_grid"):
        PIL.Image.open(output_dir / f"{figure}.png").verify()
    assert (output_dir / "samples" / "step-000003" / "masks.png").exists()
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert list((output_dir / "logs").rglob("events.*"))
    card = (output_dir / "README.md").read_text()
    assert "not the real Shapes3D" in card
    assert "](masks.png)" in card
    index = json.loads((output_dir / "model_index.json").read_text())
    assert set(index) >= {"unet", "encoder", "scheduler"}


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(config_for(tmp_path / name, seed=seed))
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")


# 40 images in batches of 8 are 5 batches an epoch: step 3 stops within the first epoch, step 7 within the second.
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stop", [3, 7])
def test_resume_equals_uninterrupted_run(tmp_path, stop, accumulation):
    settings = {"gradient_accumulation_steps": accumulation, "lr_warmup_steps": 4, "max_train_steps": 9}
    train(config_for(tmp_path / "whole", **settings, checkpointing_steps=stop))
    settings["resume_from_checkpoint"] = str(tmp_path / "whole" / f"checkpoint-{stop}")
    train(config_for(tmp_path / "resumed", **settings))
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    output_dir = train(config_for(tmp_path / "run", checkpointing_steps=2, checkpoints_total_limit=2))
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-4", "checkpoint-6"]
    assert find_checkpoint(output_dir, "latest").name == "checkpoint-6"


def test_unfinished_checkpoints_are_not_resumed_from(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-20.unfinished").mkdir()
    assert find_checkpoint(tmp_path, "latest").name == "checkpoint-10"


@pytest.mark.parametrize("name", ["latest", "checkpoint-5", "weights"])
def test_absent_checkpoints_are_refused(tmp_path, name):
    with pytest.raises(FDAEError, match="checkpoint"):
        train(config_for(tmp_path, resume_from_checkpoint=name))


def test_training_on_a_folder_of_images(tmp_path, image_folder):
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "max_train_steps": 2}
    output_dir = train(config_for(tmp_path / "run", **settings))
    assert (output_dir / "model_index.json").exists()


def test_corrupt_image_is_named_or_skipped(tmp_path, image_folder):
    (image_folder / "3.png").write_bytes((image_folder / "3.png").read_bytes()[:60])
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "max_train_steps": 3}
    with pytest.raises(FDAEError, match=r"3\.png"):
        train(config_for(tmp_path / "raise", **settings))
    output_dir = train(config_for(tmp_path / "skip", **settings, on_bad_image="skip"))
    assert (output_dir / "model_index.json").exists()


def test_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(FDAEError, match="40 images, fewer than a batch"):
        train(config_for(tmp_path, train_batch_size=64))


def test_a_loss_that_is_no_number_stops_before_the_next_checkpoint(tmp_path):
    with pytest.raises(FDAEError, match="no longer a number at step"):
        train(config_for(tmp_path, learning_rate=1e20, max_train_steps=30, checkpointing_steps=1))
    for checkpoint in list_checkpoints(tmp_path):
        state = load_file(checkpoint / "model.safetensors")
        assert all(torch.isfinite(value.float()).all() for value in state.values()), checkpoint


def test_single_concept_baseline_trains(tmp_path):
    output_dir = train(config_for(tmp_path, num_concepts=1))
    assert FDAEPipeline.from_pretrained(output_dir).encoder.config.num_concepts == 1
    assert not (output_dir / "swap_grid.png").exists()
