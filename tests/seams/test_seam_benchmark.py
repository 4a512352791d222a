"""A benchmark that is registered from outside is converted, scored, fitted on and listed like those of the package."""

import json

import numpy as np
import pytest
from datasets import Dataset
from helpers.models import micro_pipeline
from PIL import Image

from fdae_diffusers.data import BENCHMARKS, Benchmark, load_image_dataset
from fdae_diffusers.data.benchmarks.originals import add_labels, encode_png, image_and_label_features
from fdae_diffusers.data.convert import ConversionConfig, convert
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation.basis import BasisConfig, fit_basis
from fdae_diffusers.evaluation.disentanglement import EvaluationConfig, evaluate
from fdae_diffusers.utils.arguments import parse_config

SIZES = (4, 8)


def picture(row):
    red, column = divmod(row, SIZES[1])
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 2 * column : 2 * column + 2, 0] = 60 * red + 60
    return image


def read(benchmark, source):
    pictures = ({"image": encode_png(Image.fromarray(image))} for image in np.load(source))
    return image_and_label_features(benchmark, ("image",)), add_labels(benchmark, pictures)


def make(size):
    pictures = [Image.fromarray(picture(row)).resize((size, size)) for row in range(32)]
    red, column = np.unravel_index(np.arange(32), SIZES)
    return Dataset.from_dict({"image": pictures, "label_red": red, "label_column": column})


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    bars = Benchmark("bars", ("red", "column"), SIZES, 2, "https://bars.example", "Bars", note="drawn", read=read)
    monkeypatch.setitem(BENCHMARKS, "bars", bars)
    made = Benchmark("made-bars", ("red", "column"), SIZES, 2, "here", make=make)
    monkeypatch.setitem(BENCHMARKS, "made-bars", made)


@pytest.fixture
def converted(tmp_path):
    np.save(tmp_path / "bars.npy", np.stack([picture(row) for row in range(32)]))
    convert(ConversionConfig("bars", str(tmp_path / "bars.npy"), str(tmp_path / "bars")))
    return str(tmp_path / "bars")


def test_its_original_files_become_a_data_set_with_a_card(converted, tmp_path):
    rows = load_image_dataset(converted, cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(np.stack(rows["image"])[9], picture(9))
    np.testing.assert_array_equal(BENCHMARKS["bars"].read_factors(rows)[9], [1, 1])
    assert "# Bars" in (tmp_path / "bars" / "README.md").read_text()


@pytest.mark.parametrize("name", ["bars", "made-bars"])
def test_models_are_scored_and_fitted_on_it(name, converted, tmp_path, capsys):
    model = tmp_path / "model"
    micro_pipeline().save_pretrained(model)
    place = {"dataset": name, "dataset_path": converted if name == "bars" else None}
    counts = {"num_train": 40, "num_test": 20, "num_train_votes": 20, "num_eval_votes": 10}
    evaluate(EvaluationConfig(model=str(model), **place, **counts, protocol="fast", n_jobs=1))
    result = json.loads((model / "metrics.json").read_text())
    assert (result["dataset"], len(result["mig"]["gaps"])) == (name, 2)
    assert ("(drawn)" in capsys.readouterr().out) == (name == "bars")
    fit_basis(BasisConfig(model=str(model), **place, num_clusters=4))
    assert (model / "code_basis.safetensors").exists()


def test_training_takes_what_it_makes():
    assert load_image_dataset("made-bars", size=32)[0]["image"].size == (32, 32)
    with pytest.raises(FDAEError, match="made-bars"):
        load_image_dataset("made-bars", split="test")


@pytest.mark.parametrize(
    ("config_class", "names"),
    [(EvaluationConfig, ["bars", "made-bars"]), (BasisConfig, ["bars", "made-bars"]), (ConversionConfig, ["bars"])],
)
def test_help_lists_it(config_class, names, capsys):
    with pytest.raises(SystemExit):
        parse_config(config_class, ["--help"])
    listed = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert set(names) <= set(listed)
    assert ("made-bars" in listed) == ("made-bars" in names)
