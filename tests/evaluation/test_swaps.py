import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models import micro_pipeline

from fdae_diffusers import FDAECodes
from fdae_diffusers.data.benchmarks import SHAPES3D
from fdae_diffusers.data.shapes3d_factors import Shapes3DFactorEstimator
from fdae_diffusers.data.shapes3d_renderer import shared_renderer
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation.swaps import (
    Pairs,
    SwapsConfig,
    estimator_accuracy,
    evaluate_swaps,
    find_edits,
    score_edit,
)

SIZE = 16
FLOOR, OBJECT, SHADOW, WALL = range(4)  # the concepts of the model below
SURFACES = (FLOOR, WALL, OBJECT)


@pytest.fixture(scope="module")
def estimator():
    return Shapes3DFactorEstimator(SIZE)


class PerfectPipeline:
    """A model whose codes are the factors. The shape only changes if object and shadow agree on another one."""

    encoder = SimpleNamespace(config=SimpleNamespace(sample_size=SIZE, num_concepts=4))

    def __init__(self, estimator):
        self.estimator = estimator

    def encode(self, images):
        factors = torch.from_numpy(self.estimator.estimate(images)).float()
        codes = FDAECodes(torch.zeros(len(images), 4, 1), torch.zeros(len(images), 4, 2))
        codes.content[:, SURFACES, 0] = factors[:, :3]
        codes.mask[:, OBJECT] = factors[:, 3:5]
        codes.mask[:, SHADOW, 1] = factors[:, 4]
        codes.mask[:, WALL, 0] = factors[:, 5]
        return codes

    def decode(self, codes, num_inference_steps, latents, output_type, batch_size):
        shapes = codes.mask[:, [OBJECT, SHADOW], 1]
        shape = torch.where(shapes[:, 0] == shapes[:, 1], shapes[:, 0], 3 - shapes[:, 1])
        factors = [codes.content[:, SURFACES, 0].T, codes.mask[:, OBJECT, 0], shape, codes.mask[:, WALL, 0]]
        rows = SHAPES3D.factors_to_rows(torch.vstack(factors).T.long().numpy())
        return shared_renderer(SIZE).render(rows) / 255


@pytest.fixture(scope="module")
def pairs(estimator):
    return Pairs(PerfectPipeline(estimator), 12, np.random.RandomState(0), num_inference_steps=1, batch_size=5)


def test_factors_are_read_off_true_pictures_without_error_and_off_noisy_ones(pairs, estimator):
    assert set(estimator_accuracy(pairs, estimator).values()) == {1.0}
    noise = np.random.default_rng(0).normal(0, 10, (12, SIZE, SIZE, 3))
    noisy = (pairs.render(pairs.sources) + noise).clip(0, 255).astype(np.uint8)
    assert np.mean(estimator.estimate(noisy) == pairs.sources) > 0.95


def test_pairs_differ_in_every_factor(pairs):
    assert (pairs.sources != pairs.targets).all()
    assert (pairs.targets < SHAPES3D.factor_sizes).all()


def test_concepts_are_found_by_what_their_codes_change(pairs, estimator):
    edits = {edit.name: edit for edit in find_edits(4, pairs, estimator)}
    assert edits["floor content"].content == (FLOOR,)
    assert edits["wall content"].content == (WALL,)
    assert edits["object content"].content == (OBJECT,)
    assert edits["object and second mask"].mask == (OBJECT, SHADOW)


def test_edits_of_a_perfect_model_are_right_and_what_it_cannot_do_shows(pairs, estimator):
    scores = {edit.name: score_edit(edit, pairs, estimator) for edit in find_edits(4, pairs, estimator)}
    for name in set(scores) - {"object mask"}:
        assert set(scores[name]["as_expected"].values()) == {1.0}, name
        assert scores[name]["all_as_expected"] == 1
        assert scores[name]["psnr"] == pytest.approx(100)  # the true picture itself
    alone = scores["object mask"]
    assert alone["as_expected"]["shape"] < 0.5 < alone["as_expected"]["scale"]
    assert alone["all_as_expected"] < 0.5
    assert alone["psnr"] < 60


def test_single_concept_models_are_refused(pairs, estimator):
    with pytest.raises(FDAEError, match="single-concept"):
        find_edits(1, pairs, estimator)


def test_written_rates_repeat_and_own_noise_keeps_the_picture(tmp_path, capsys):
    micro_pipeline().save_pretrained(tmp_path)
    settings = {"model": str(tmp_path), "num_pairs": 2, "num_search_pairs": 1, "num_inference_steps": 4}
    results = [
        evaluate_swaps(SwapsConfig(**settings, keep_noise=keep_noise, overwrite=True))
        for keep_noise in (False, False, True)
    ]
    assert json.loads((tmp_path / "swaps.json").read_text()) == results[2]
    assert results[0] == results[1]
    assert set(results[0]["estimator_accuracy"].values()) == {1.0}
    random_noise, own_noise = (result["edits"]["none"]["psnr"] for result in results[1:])
    assert own_noise > random_noise + 5
    assert "object and second mask" in capsys.readouterr().out
    with pytest.raises(FDAEError, match=r"swaps\.json exists"):
        evaluate_swaps(SwapsConfig(**settings))
