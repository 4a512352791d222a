"""`fdae train` on a folder of pictures, with networks of a few thousand parameters."""

import json

import pytest
from helpers.models import MICRO_ENCODER, MICRO_UNET
from PIL import Image

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.cli.main import run
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.examples import load_examples

MICRO = ["--preset", "tiny-32", "--unet", json.dumps(MICRO_UNET), "--encoder", json.dumps(MICRO_ENCODER)]
SHORT = ["--max_train_steps", "4", "--num_validation_images", "2", "--num_inference_steps", "1", "--num_concepts", "3"]
SHORT += ["--validation_steps", "2", "--report_to", "none"]


def test_a_folder_becomes_a_model_with_all_that_is_told(image_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (image_folder / "IMG_1.HEIC").write_bytes(b"heic")
    run(["train", str(image_folder), "--minutes", "0.05", "--fit", "pad", *MICRO, *SHORT])
    told = capsys.readouterr().out
    before, _, after = told.partition("model and pictures: outputs/images")
    for part in ("10, padded", "IMG_1.HEIC", "device", "parameters", "4 steps of", "epochs", "end "):
        assert part in before
    assert "fdae app --model outputs/images" in after
    folder = tmp_path / "outputs" / "images"
    assert FDAEPipeline.from_pretrained(folder).encoder.config.num_concepts == 3
    assert [image.size for image in load_examples(str(folder))] == [(16, 16)] * 2
    assert (folder / "samples" / "step-000002" / "masks.png").exists()
    record = json.loads((folder / "training.json").read_text())
    assert record["config"]["train_data_dir"] == "images"
    assert record["config"]["mask_init"] == "shared"  # of the recipe
    with Image.open(folder / "pictures" / "images" / "000000.png") as image:
        assert image.size == (16, 16)
    with pytest.raises(FDAEError, match="holds a model"):
        run(["train", str(image_folder), *MICRO, *SHORT])


def test_a_configuration_that_comes_with_the_package_is_trained_as_by_the_script(tmp_path, capsys):
    flags = ["--max_train_samples", "20", "--train_batch_size", "4", "--output_dir", str(tmp_path / "run")]
    run(["train", "--config", "quickstart", *MICRO, *SHORT, *flags])
    assert "fdae swap - -" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "run" / "training.json").read_text())["config"]["dataset_name"] == "shapes3d-rendered"
    )


def test_every_flag_of_a_training_is_listed(capsys):
    with pytest.raises(SystemExit):
        run(["train", "--all_flags"])
    assert "--micro_batch_size" in capsys.readouterr().out
