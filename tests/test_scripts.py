"""The scripts of training/, called as a user calls them, from training to the upload."""

import json
import os
import subprocess
import sys

import pytest
from helpers.models import MICRO_ENCODER, MICRO_UNET
from helpers.paths import ROOT, TRAINING
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def call(*command, folder):
    """Run Python in a folder of its own, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model that train_fdae.py has trained for two steps."""
    folder = tmp_path_factory.mktemp("scripts")
    flags = {
        "config": TRAINING / "configs" / "quickstart.yaml",
        "unet": json.dumps(MICRO_UNET),
        "encoder": json.dumps(MICRO_ENCODER),
        "num_concepts": 3,
        "max_train_samples": 40,
        "max_train_steps": 2,
        "train_batch_size": 4,
        "num_validation_images": 2,
        "output_dir": "model",
        "report_to": "none",
    }
    call(
        TRAINING / "train_fdae.py",
        *(part for name, value in flags.items() for part in (f"--{name}", value)),
        folder=folder,
    )
    return folder


def test_trained_model_is_scored(trained, benchmark):
    counts = [
        "--num_train",
        64,
        "--num_test",
        32,
        "--num_train_votes",
        20,
        "--num_eval_votes",
        10,
        "--protocol",
        "fast",
    ]
    data = ["--dataset", "shapes3d", "--dataset_path", benchmark, "--metrics", "mig"]
    printed = call(TRAINING / "evaluate_fdae.py", "--model", "model", *data, *counts, folder=trained)
    score = json.loads((trained / "model" / "metrics.json").read_text())["mig"]["mig"]
    assert f"{score:.4f}" in printed
    assert f"| MIG | {score:.3f} |" in (trained / "model" / "README.md").read_text()


def test_dry_run_of_an_upload_says_that_nothing_was_uploaded(trained):
    flags = ["--model", "model", "--repo_id", "org/name", "--dry_run_dir", "upload"]
    assert "nothing was uploaded" in call(TRAINING / "push_to_hub.py", *flags, folder=trained)
    assert (trained / "upload" / "model_index.json").exists()


def test_demo_draws_pictures_of_the_shipped_model(tmp_path):
    model = ROOT / "model_cards" / "fdae-shapes3d-rendered-32"
    flags = ["--model", model, "--output_dir", "pictures", "--num_images", 2, "--num_inference_steps", 2]
    call("-c", "from fdae_diffusers.cli import main; main()", "demo", *flags, folder=tmp_path)
    for name in ("masks", "reconstructions", "swap_grid", "single_swaps", "traversal"):
        Image.open(tmp_path / "pictures" / f"{name}.png").verify()


@pytest.mark.parametrize("script", sorted(path.name for path in TRAINING.glob("*.py")))
def test_script_explains_its_flags(script, tmp_path):
    assert "--help" in call(TRAINING / script, "--help", folder=tmp_path)
