"""Swaps on a labelled grid whose images are read from a data set, by a model that does what it should."""

import itertools
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from helpers.models import micro_pipeline
from PIL import Image

from fdae_diffusers import FDAECodes
from fdae_diffusers.data import benchmarks
from fdae_diffusers.data.benchmarks.base import Benchmark
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation.grid_swaps import grid_accuracy, open_grid, score_grid_swaps
from fdae_diffusers.evaluation.pairs import Pairs
from fdae_diffusers.evaluation.swaps import SwapsConfig, evaluate_swaps

TOY = Benchmark("toy", ("hue", "place"), (4, 5), num_concepts=2, source="", appearance_factors=("hue",))


def picture(hue, place):
    """A bar of a hue at a place, on black; any bar in the right place is nearer than one elsewhere."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 3 * place : 3 * place + 3] = [(200, 100, 100), (100, 200, 100), (100, 100, 200), (200, 200, 100)][hue]
    return image


def write(folder, rows):
    columns = {
        "image": [Image.fromarray(picture(*row)) for row in rows],
        "label_hue": [hue for hue, _ in rows],
        "label_place": [place for _, place in rows],
    }
    (folder / "data").mkdir(parents=True)
    datasets.Dataset.from_dict(columns).to_parquet(folder / "data" / "train.parquet")
    return str(folder)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(benchmarks.BENCHMARKS, "toy", TOY)


@pytest.fixture
def data(tmp_path):
    """All images, in another order than the grid's."""
    rows = list(itertools.product(range(4), range(5)))
    return write(tmp_path / "toy", [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])


class Perfect:
    """Content code 0 is the hue, mask code 1 the place; the other codes are idle."""

    encoder = SimpleNamespace(config=SimpleNamespace(sample_size=16, num_concepts=2))

    def encode(self, images):
        grid = np.stack([picture(*row) for row in itertools.product(range(4), range(5))])
        rows = np.abs(np.asarray(images)[:, None].astype(int) - grid).sum(axis=(2, 3, 4)).argmin(axis=1)
        codes = FDAECodes(torch.zeros(len(images), 2, 1), torch.zeros(len(images), 2, 1))
        codes.content[:, 0, 0], codes.mask[:, 1, 0] = torch.from_numpy(rows // 5), torch.from_numpy(rows % 5)
        return codes

    def decode(self, codes, num_inference_steps, latents, output_type, batch_size):
        factors = zip(codes.content[:, 0, 0].int().tolist(), codes.mask[:, 1, 0].int().tolist(), strict=True)
        return np.stack([picture(*row) for row in factors]) / 255


def test_swaps_change_what_their_codes_hold(data):
    grid = open_grid("toy", data, 16)
    pairs = Pairs(Perfect(), 10, np.random.RandomState(0), num_inference_steps=1, grid=grid)
    assert grid_accuracy(pairs, grid) == {"hue": 1, "place": 1}
    np.testing.assert_array_equal(grid.images(np.array([[2, 3]]))[0], picture(2, 3))
    edits = score_grid_swaps(2, pairs, grid)
    moved = {name: {factor for factor, rate in edit["becomes"].items() if rate == 1} for name, edit in edits.items()}
    assert moved == {
        "none": set(),
        "content 0": {"hue"},
        "content 1": set(),
        "all content": {"hue"},
        "mask 0": set(),
        "mask 1": {"place"},
        "all masks": {"place"},
    }
    assert all(
        edit["becomes"][name] + edit["stays"][name] == 1 for edit in edits.values() for name in TOY.factor_names
    )
    assert {name for name, edit in edits.items() if edit.get("all_as_expected") == 1} == {
        "none",
        "all content",
        "all masks",
    }


def test_result_is_written_and_repeats(tmp_path, data, capsys):
    micro_pipeline().save_pretrained(tmp_path / "model")
    settings = {"model": str(tmp_path / "model"), "dataset": "toy", "dataset_path": data, "num_pairs": 3}
    settings |= {"num_inference_steps": 1, "overwrite": True}
    results = [evaluate_swaps(SwapsConfig(**settings)) for _ in range(2)]
    assert results[0] == results[1] == json.loads((tmp_path / "model" / "swaps.json").read_text())
    assert len(results[0]["edits"]) == 9
    assert "all masks" in capsys.readouterr().out


def test_a_grid_with_gaps_is_refused(tmp_path):
    with pytest.raises(FDAEError, match="20 images"):
        open_grid("toy", write(tmp_path / "gaps", [(0, 0), (1, 1)]), 16)
