"""Masks of a model against the true parts of a data set."""

import json

import datasets
import numpy as np
import pytest
import torch
from helpers.models import micro_pipeline
from PIL import Image

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation import segmentation
from fdae_diffusers.evaluation.segmentation import MasksConfig, evaluate_masks

SIZE = 16


@pytest.fixture
def parts():
    """True parts (5, 16, 16) of Cars3D: a car on its background."""
    parts = np.zeros((5, SIZE, SIZE), np.uint8)
    for number, part in enumerate(parts):
        part[4:12, number : number + 6] = 1
    return parts


def write(folder, parts, **columns):
    images = [Image.fromarray(np.repeat(part[..., None] * 200, 3, axis=2)) for part in parts]
    labels = {f"label_{name}": [0] * len(parts) for name in ("elevation", "azimuth", "object")}
    rows = datasets.Dataset.from_dict({"image": images, **labels, **columns})
    (folder / "data").mkdir(parents=True)
    rows.to_parquet(folder / "data" / "train.parquet")
    return str(folder)


@pytest.fixture
def model(tmp_path):
    micro_pipeline().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_masks_that_follow_the_car_score_one(tmp_path, parts, model, monkeypatch, capsys):
    data = write(tmp_path / "cars", parts, mask=[Image.fromarray(part.astype(bool)) for part in parts])

    def perfect(encoder, images, batch_size):
        values = images.read_pixels(range(len(images)))[:, 0]
        return torch.nn.functional.one_hot((values > 100).long() * 2, 3).movedim(3, 1).float().numpy()

    config = {"model": model, "dataset": "cars3d", "dataset_path": data, "num_images": 4}
    evaluate_masks(MasksConfig(**config))  # of a real model
    scores = json.loads((tmp_path / "model" / "masks.json").read_text())
    assert scores["num_images"] == 4
    assert 0 < scores["best_iou"] < 0.9
    monkeypatch.setattr(segmentation, "_decode_masks", perfect)
    result = evaluate_masks(MasksConfig(**config, overwrite=True))
    assert result["best_iou"] == result["consistency"] == result["crispness"] == 1
    assert result["foreground_ari"] is None  # the car is a single part
    assert {name: part["concept"] for name, part in result["parts"].items()} == {"background": 0, "car": 2}
    assert "car              concept 2, IoU 1.000" in capsys.readouterr().out


def test_data_without_parts_are_refused(tmp_path, parts, model):
    with pytest.raises(FDAEError, match="no true parts"):
        evaluate_masks(MasksConfig(model=model, dataset="shapes3d-rendered"))
    with pytest.raises(FDAEError, match="no column 'mask'"):
        evaluate_masks(MasksConfig(model=model, dataset="cars3d", dataset_path=write(tmp_path / "plain", parts)))
    greys = [Image.fromarray(part * 255) for part in parts]
    with pytest.raises(FDAEError, match="2 parts, not 256"):
        evaluate_masks(
            MasksConfig(model=model, dataset="cars3d", dataset_path=write(tmp_path / "grey", parts, mask=greys))
        )
