"""Trainings of a few steps, and their weights."""

import torch
from safetensors.torch import load_file

from fdae_diffusers.training import TrainingConfig, train

from .models import MICRO_ENCODER, MICRO_UNET


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


def train_here(config) -> None:
    """Train in a process of its own."""
    train(config)


def weights(output_dir):
    return {
        **load_file(output_dir / "unet" / "diffusion_pytorch_model.safetensors"),
        **load_file(output_dir / "encoder" / "diffusion_pytorch_model.safetensors"),
    }


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
