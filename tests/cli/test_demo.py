import json

import numpy as np
import PIL.Image
import pytest
from helpers.models import micro_pipeline

from fdae_diffusers.cli.main import run
from fdae_diffusers.errors import FDAEError

FIGURES = {"masks.png", "reconstructions.png", "single_swaps.png", "swap_grid.png"}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model in a folder that is the current one, with nothing that tells what it was trained on."""
    micro_pipeline().save_pretrained(tmp_path / "micro")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDAE_MODEL", "micro")
    return tmp_path / "micro"


def record(model, dataset_name):
    (model / "training.json").write_text(json.dumps({"config": {"dataset_name": dataset_name}}))


def drawn(folder):
    return {path.name for path in folder.iterdir()}


def test_a_model_of_built_in_images_is_shown_with_them(model, tmp_path):
    record(model, "shapes3d-rendered")
    run(["demo", "--num_images", "2", "--num_inference_steps", "1"])
    assert drawn(tmp_path / "outputs" / "demo") == FIGURES
    with pytest.raises(FDAEError, match="not empty"):
        run(["demo"])


@pytest.mark.parametrize("dataset_name", [None, "cars3d", ...])
def test_another_model_is_not_shown_with_built_in_images(model, tmp_path, dataset_name):
    if dataset_name is not ...:
        record(model, dataset_name)
    with pytest.raises(FDAEError, match="not trained on built-in images"):
        run(["demo"])
    assert not (tmp_path / "outputs").exists()


def test_images_or_a_data_set_are_shown_as_named(model, image_folder, tmp_path):
    named = [str(path) for path in sorted(image_folder.iterdir())[:2]]
    run(["demo", *named, "--num_inference_steps", "1", "--output_dir", "named"])
    run(["demo", "--dataset", str(image_folder), "--num_images", "2", "--num_inference_steps", "1"])
    assert drawn(tmp_path / "named") == drawn(tmp_path / "outputs" / "demo") == FIGURES
    with PIL.Image.open(tmp_path / "named" / "masks.png") as one, PIL.Image.open("outputs/demo/masks.png") as other:
        assert one.size == other.size
        assert (np.asarray(one) != np.asarray(other)).any()
    with pytest.raises(FDAEError, match="not both"):
        run(["demo", *named, "--dataset", str(image_folder), "--output_dir", "third"])
