import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models import micro_pipeline
from helpers.paths import TRAINING

from fdae_diffusers import FDAECodes
from fdae_diffusers.data.shapes3d_factors import Shapes3DReader
from fdae_diffusers.data.shapes3d_renderer import SHAPES3D, shared_renderer
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation.swaps import Pairs, find_edits, reader_accuracy, score_edit

sys.path.insert(0, str(TRAINING))

import evaluate_swaps

SIZE = 16
FLOOR, OBJECT, SHADOW, WALL = range(4)  # the concepts of the model below
SURFACES = (FLOOR, WALL, OBJECT)


@pytest.fixture(scope="module")
def reader():
    return Shapes3DReader(SIZE)


class PerfectPipeline:
    """A model whose codes are the factors. The shape only changes if object and shadow agree on another one."""

    encoder = SimpleNamespace(config=SimpleNamespace(sample_size=SIZE, num_concepts=4))

    def __init__(self, reader):
        self.reader = reader

    def encode(self, images):
        factors = torch.from_numpy(self.reader.read(images)).float()
        codes = FDAECodes(torch.zeros(len(images), 4, 1), torch.zeros(len(images), 4, 2))
        codes.content[:, SURFACES, 0] = factors[:, :3]
        codes.mask[:, OBJECT] = factors[:, 3:5]
        codes.mask[:, SHADOW, 1] = factors[:, 4]
        codes.mask[:, WALL, 0] = factors[:, 5]
        return codes

    def __call__(self, codes, latents, num_inference_steps, output_type):
        shapes = codes.mask[:, [OBJECT, SHADOW], 1]
        shape = torch.where(shapes[:, 0] == shapes[:, 1], shapes[:, 0], 3 - shapes[:, 1])
        factors = [codes.content[:, SURFACES, 0].T, codes.mask[:, OBJECT, 0], shape, codes.mask[:, WALL, 0]]
        rows = SHAPES3D.factors_to_rows(torch.vstack(factors).T.long().numpy())
        return SimpleNamespace(images=shared_renderer(SIZE).render(rows) / 255)


@pytest.fixture(scope="module")
def pairs(reader):
    return Pairs(PerfectPipeline(reader), 12, np.random.RandomState(0), num_inference_steps=1, batch_size=5)


def test_factors_are_read_off_true_pictures_without_error_and_off_noisy_ones(pairs, reader):
    assert set(reader_accuracy(pairs, reader).values()) == {1.0}
    noise = np.random.default_rng(0).normal(0, 10, (12, SIZE, SIZE, 3))
    noisy = (pairs.render(pairs.sources) + noise).clip(0, 255).astype(np.uint8)
    assert np.mean(reader.read(noisy) == pairs.sources) > 0.95


def test_pairs_differ_in_every_factor(pairs):
    assert (pairs.sources != pairs.targets).all()
    assert (pairs.targets < SHAPES3D.factor_sizes).all()


def test_concepts_are_found_by_what_their_codes_change(pairs, reader):
    edits = {edit.name: edit for edit in find_edits(4, pairs, reader)}
    assert edits["floor content"].content == (FLOOR,)
    assert edits["wall content"].content == (WALL,)
    assert edits["object content"].content == (OBJECT,)
    assert edits["object and second mask"].mask == (OBJECT, SHADOW)


def test_edits_of_a_perfect_model_are_right_and_what_it_cannot_do_shows(pairs, reader):
    scores = {edit.name: score_edit(edit, pairs, reader) for edit in find_edits(4, pairs, reader)}
    for name in set(scores) - {"object mask"}:
        assert set(scores[name]["as_expected"].values()) == {1.0}, name
        assert scores[name]["all_as_expected"] == 1
        assert scores[name]["psnr"] == pytest.approx(100)  # the true picture itself
    alone = scores["object mask"]
    assert alone["as_expected"]["shape"] < 0.5 < alone["as_expected"]["scale"]
    assert alone["all_as_expected"] < 0.5
    assert alone["psnr"] < 60


def test_single_concept_models_are_refused(pairs, reader):
    with pytest.raises(FDAEError, match="single-concept"):
        find_edits(1, pairs, reader)


def test_script_writes_rates_that_repeat_and_own_noise_keeps_the_picture(tmp_path, monkeypatch, capsys):
    micro_pipeline().save_pretrained(tmp_path)
    flags = ["--model", str(tmp_path), "--num_pairs", "2", "--num_search_pairs", "1", "--num_inference_steps", "4"]
    results = []
    for keep_noise in (False, False, True):
        monkeypatch.setattr("sys.argv", ["evaluate_swaps.py", *flags, "--keep_noise", str(keep_noise)])
        evaluate_swaps.main()
        results.append(json.loads((tmp_path / "swaps.json").read_text()))
    assert results[0] == results[1]
    assert set(results[0]["reader_accuracy"].values()) == {1.0}
    random_noise, own_noise = (result["edits"]["none"]["psnr"] for result in results[1:])
    assert own_noise > random_noise + 5
    assert "object and second mask" in capsys.readouterr().out
