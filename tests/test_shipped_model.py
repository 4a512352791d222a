"""The model that is part of the repository: it loads, and does what its card says."""

import json

import numpy as np
import pytest
from helpers.paths import ROOT

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.data import Shapes3DRenderer

MODEL = ROOT / "model_cards" / "fdae-shapes3d-rendered-32"


@pytest.fixture(scope="module")
def shipped():
    pipeline = FDAEPipeline.from_pretrained(MODEL)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pictures():
    """16 built-in pictures (16, 32, 32, 3), uint8."""
    return Shapes3DRenderer(32).render(np.random.default_rng(0).choice(480_000, 16, replace=False))


def test_reconstructions_are_as_close_as_the_card_says(shipped, pictures):
    reconstructed = shipped(pictures, output_type="np").images
    errors = np.square(reconstructed - pictures / 255).mean(axis=(1, 2, 3))
    psnr = -10 * np.log10(errors).mean()
    assert psnr > 33
    sampling = json.loads((MODEL / "training.json").read_text()).get("sampling") or []
    steps = shipped.config.get("num_inference_steps")
    default = [row["psnr"] for row in sampling if row["num_inference_steps"] == steps]
    assert all(psnr > measured - 1 for measured in default)  # on other images


def test_masks_are_crisp_and_each_concept_covers_something(shipped, pictures):
    masks = shipped.decode_masks(shipped.encode(pictures))
    assert masks.max(dim=1).values.mean() > 0.9  # the share of the strongest concept at a pixel
    strongest = masks.argmax(dim=1)
    assert (strongest.unique(return_counts=True)[1] > 0.01 * strongest.numel()).sum() == 4
