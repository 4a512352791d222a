"""Prediction of attributes, on images whose brightness is one of them."""

import json

import datasets
import numpy as np
import PIL.Image
import pytest

from fdae_diffusers.data import load_image_dataset
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation.attributes import (
    AttributeConfig,
    label_columns,
    load_splits,
    predict_attributes,
)


def write_split(folder, split, bright):
    generator = np.random.default_rng(len(bright))
    images = generator.integers(0, 100, (len(bright), 16, 16, 3)) + 150 * bright[:, None, None, None]
    columns = {
        "image": [PIL.Image.fromarray(image.astype(np.uint8)) for image in images],
        "Bright": bright.tolist(),
        "coin": generator.integers(2, size=len(bright)).tolist(),
        "id": [str(i) for i in range(len(bright))],
        "identity": generator.integers(3, size=len(bright)).tolist(),
        "Real": [True] * len(bright),
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("coin", datasets.ClassLabel(names=["heads", "tails"]))
    rows.to_parquet(folder / f"{split}-00000.parquet")


@pytest.fixture
def config_for(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    generator = np.random.default_rng(0)
    write_split(tmp_path / "data", "train", generator.integers(2, size=80).astype(bool))
    write_split(tmp_path / "data", "test", np.ones(20, dtype=bool))

    def config_for(**settings):
        defaults = {"attributes": ["Bright", "coin", "identity"], "test_fraction": 0.25}
        names = {"model": str(tmp_path / "model"), "dataset_name": str(tmp_path / "data")}
        return AttributeConfig(**names, **{**defaults, **settings})

    return config_for


def test_visible_attributes_are_predicted_from_a_share_of_the_images(config_for, tmp_path, capsys):
    result = predict_attributes(config_for())
    assert result["counts"] == {"train": 60, "test": 20}
    rows = result["attributes"]
    assert list(rows) == ["Bright", "coin", "identity"]
    assert rows["Bright"]["accuracy"] > 0.9
    assert rows["coin"]["accuracy"] < 0.9
    assert (rows["identity"]["values"], rows["identity"]["chance"]) == (3, pytest.approx(1 / 3))
    text = (tmp_path / "model" / "attributes.json").read_text()
    assert json.loads(text) == result
    assert (result["model"], result["dataset_name"]) == ("model", "data")
    assert str(tmp_path) not in text
    assert f"| Bright | 2 | {rows['Bright']['accuracy']:.3f} |" in capsys.readouterr().out


def test_another_split_is_held_out(config_for):
    result = predict_attributes(config_for(test_split="test", attributes=["Bright"]))
    assert result["counts"] == {"train": 80, "test": 20}
    assert result["attributes"]["Bright"]["accuracy"] > 0.9
    assert result["attributes"]["Bright"]["majority_rate"] in (0, 1)  # the test images are all bright


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ([], "column Real has one value only"),  # all columns of classes or booleans
        (["Smiling"], "no column Smiling; the columns are image, Bright"),
        (["id"], "column id holds neither classes"),
    ],
)
def test_unusable_columns_are_refused_by_name(config_for, attributes, message):
    with pytest.raises(FDAEError, match=message):
        predict_attributes(config_for(attributes=attributes))


def test_default_attributes_are_classes_and_booleans(config_for):
    assert label_columns(load_splits(config_for(), 16)[0].features) == ["Bright", "coin", "Real"]
    with pytest.raises(FDAEError, match="no column holds classes or booleans; name attributes among id"):
        label_columns(datasets.Features({"id": datasets.Value("string")}))


def test_rendered_images_are_those_of_the_training():
    config = AttributeConfig(model="", dataset_name="shapes3d-rendered", test_split=None, max_samples=2)
    expected = load_image_dataset("shapes3d-rendered", max_samples=2, size=32)
    for row, expected_row in zip(load_splits(config, 32)[0], expected, strict=True):
        np.testing.assert_array_equal(row["image"], expected_row["image"])
