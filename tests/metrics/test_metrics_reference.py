"""Parity with the released code on a stored table, and with an independent implementation on scalar codes."""

import json

import numpy as np
import pytest
from helpers.paths import FIXTURES

from fdae_diffusers.metrics import dci, evaluate_codes, factor_vae_score, mig, sap
from fdae_diffusers.metrics.factor_grid import FactorGrid

TABLE = FIXTURES / "parity" / "metrics_table.npz"
DISENT = json.loads((FIXTURES / "metrics" / "disent_scalar.json").read_text())


@pytest.fixture(scope="module")
def table():
    return dict(np.load(TABLE))


COUNTS = {"num_train": 1_000, "num_test": 500, "num_train_votes": 1_000, "num_eval_votes": 500, "progress": False}


@pytest.fixture(scope="module")
def codes_and_grid(table):
    codes = table["codes"].reshape(-1, 12, 80)  # float16, six content and six mask codes
    return codes, np.stack(np.unravel_index(np.arange(len(codes)), table["factor_sizes"]), axis=1)


@pytest.fixture(scope="module")
def scores(codes_and_grid):
    return evaluate_codes(*codes_and_grid, metrics=("dci", "factor_vae", "mig"), **COUNTS)


def test_clusters_start_from_zero_as_in_the_released_code_whatever_the_seed_of_the_draws(codes_and_grid):
    codes, factors = codes_and_grid
    grid = FactorGrid(factors, len(codes))
    sample = grid.draw(COUNTS["num_train"], np.random.RandomState(5))
    score = evaluate_codes(codes, factors, seed=5, metrics=["mig"], **COUNTS)["mig"]["mig"]
    assert score == mig(codes[grid.rows(sample)], sample, seed=0)["mig"]
    assert score != mig(codes[grid.rows(sample)], sample, seed=5)["mig"]


def test_mig_equals_released_code(table, scores):
    assert scores["mig"]["mig"] == pytest.approx(table["mig_discrete_mig"], abs=1e-6)
    np.testing.assert_allclose(scores["mig"]["mutual_information"], table["mig_mutual_info"], atol=1e-6)
    np.testing.assert_allclose(scores["mig"]["entropy"], table["mig_entropy"], atol=1e-6)


def test_factor_vae_votes_equal_released_code(table, scores):
    assert scores["factor_vae"]["train_accuracy"] == pytest.approx(table["factor_vae_train_accuracy"], abs=1e-6)
    assert scores["factor_vae"]["eval_accuracy"] == pytest.approx(table["factor_vae_eval_accuracy"], abs=1e-6)
    np.testing.assert_array_equal(scores["factor_vae"]["train_votes"], table["factor_vae_train_votes"])
    np.testing.assert_array_equal(scores["factor_vae"]["eval_votes"], table["factor_vae_test_votes"])


def test_dci_equals_released_code_but_for_ties_between_splits(table, scores):
    for name in ("disentanglement", "completeness", "informativeness_train", "informativeness_test"):
        assert scores["dci"][name] == pytest.approx(table[f"dci_{name}"], abs=1e-3)
    np.testing.assert_allclose(scores["dci"]["importance"], table["dci_importance"], atol=5e-3)


SIZES = (4, 3, 5)
MIXING = np.array([[1, 0, 0.3, 0, 0, 0.5], [0, 1, 0, 0.8, 0, 0.5], [0, 0, 1, 0.2, 0, 0.5]])


def scalar_sample(num, random_state):
    """The arrays behind the fixture: (num, 6) noisy mixtures of three factors."""
    factors = np.stack([random_state.randint(size, size=num) for size in SIZES], axis=1)
    return factors @ MIXING + 0.25 * random_state.randn(num, 6), factors


def test_scalar_protocol_equals_disent():
    random_state = np.random.RandomState(0)
    train, test = scalar_sample(600, random_state), scalar_sample(300, random_state)
    assert mig(*train, protocol="scalar")["mig"] == pytest.approx(DISENT["mig"], abs=1e-6)
    assert sap(*train, *test, protocol="scalar")["sap"] == pytest.approx(DISENT["sap"], abs=1e-6)
    scores = dci(*train, *test, protocol="scalar")
    for name, expected in DISENT["dci"].items():  # disent leaves ties between splits to an unseeded generator
        assert scores[name] == pytest.approx(expected, abs=5e-3)


def test_scalar_factor_vae_equals_disent():
    grid = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1)
    codes = grid @ MIXING + 0.25 * np.random.RandomState(1).randn(60, 6)
    scores = factor_vae_score(
        codes, grid, protocol="scalar", num_variance=400, num_train=500, num_eval=300, batch_size=8
    )
    for name, expected in DISENT["factor_vae"].items():
        assert scores[name] == pytest.approx(expected, abs=1e-6)
