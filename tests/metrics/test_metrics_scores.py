"""Known answers: what perfect, mixed and idle codes score."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from fdae_diffusers.metrics import (
    beta_vae_score,
    dci,
    factor_vae_score,
    irs,
    mig,
    modularity_explicitness,
    sap,
    self_mig,
)

SIZES = (4, 3, 5)
GRID = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1)
PERFECT = GRID - GRID.mean(axis=0)  # one scalar code per factor
NOISE = np.random.default_rng(0).standard_normal((60, 3))
VOTES = {"num_variance": 500, "num_train": 200, "num_eval": 100}


def split(codes):
    rows = np.random.default_rng(1).integers(60, size=600)
    return codes[rows[:400]], GRID[rows[:400]], codes[rows[400:]], GRID[rows[400:]]


def noisy_split():
    rng = np.random.default_rng(2)
    codes, factors = rng.standard_normal((600, 3)), rng.integers(SIZES, size=(600, 3))
    return codes[:400], factors[:400], codes[400:], factors[400:]


def one_hot_codes():
    """One vector code per factor, (60, 3, 5)."""
    return np.eye(5)[GRID].astype(np.float32)


def test_one_scalar_per_factor_scores_one():
    scores = dci(*split(PERFECT))
    assert scores["disentanglement"] == pytest.approx(1, abs=1e-3)
    assert scores["completeness"] == pytest.approx(1, abs=1e-3)
    assert scores["informativeness_test"] == 1
    assert mig(PERFECT, GRID)["mig"] == pytest.approx(1)
    assert self_mig(PERFECT)["self_mig"] == pytest.approx(1)
    assert factor_vae_score(PERFECT, GRID, **VOTES)["eval_accuracy"] == 1
    assert beta_vae_score(PERFECT, GRID, num_train=200, num_eval=100)["eval_accuracy"] == 1
    assert irs(PERFECT, GRID)["irs"] == pytest.approx(1)
    modularity = modularity_explicitness(*split(PERFECT))["modularity"]
    assert modularity == pytest.approx(1, abs=1e-3)


def test_one_vector_per_factor_scores_one_except_in_completeness():
    codes = one_hot_codes()
    scores = dci(*split(codes))
    assert scores["disentanglement"] == pytest.approx(1, abs=1e-3)
    assert scores["completeness"] < 0.95  # a code's principal components share its factor
    assert mig(codes, GRID)["mig"] == pytest.approx(1)
    assert self_mig(codes)["self_mig"] == pytest.approx(1)
    assert factor_vae_score(codes, GRID, **VOTES)["eval_accuracy"] == 1
    scores = modularity_explicitness(*split(codes))
    assert scores["explicitness_test"] == pytest.approx(1)


def test_noise_scores_near_zero_or_chance():
    train_codes, train_factors, *test = noisy_split()
    scores = dci(train_codes, train_factors, *test)
    assert scores["disentanglement"] < 0.1
    assert scores["informativeness_test"] < 0.4
    assert mig(train_codes, train_factors)["mig"] < 0.05
    assert sap(train_codes, train_factors, *test)["sap"] < 0.1
    explicitness = modularity_explicitness(train_codes, train_factors, *test)["explicitness_test"]
    assert explicitness == pytest.approx(0.5, abs=0.06)
    assert factor_vae_score(NOISE, GRID, **VOTES)["eval_accuracy"] < 0.7


def test_rotation_loses_disentanglement_but_not_informativeness():
    rotated = PERFECT @ ortho_group.rvs(3, random_state=0)
    scores = dci(*split(rotated))
    assert scores["disentanglement"] < 0.6
    assert scores["informativeness_test"] > 0.95
    assert mig(rotated, GRID)["mig"] < 0.5


def test_rotation_within_vector_codes_changes_nothing():
    codes = one_hot_codes()
    rotated = codes @ ortho_group.rvs(5, random_state=0)
    assert mig(rotated, GRID)["mig"] == pytest.approx(mig(codes, GRID)["mig"])
    assert self_mig(rotated)["self_mig"] == pytest.approx(self_mig(codes)["self_mig"])


def test_repeated_codes_lose_mig_and_self_mig():
    codes = np.concatenate([one_hot_codes()] * 2, axis=1)
    assert mig(codes, GRID)["mig"] == pytest.approx(0, abs=1e-9)
    assert self_mig(codes)["self_mig"] == pytest.approx(0, abs=1e-9)


def test_sap_sees_the_gap_between_the_best_two_dimensions():
    factors = np.stack([GRID[:, 0] > 1, GRID[:, 1] > 0], axis=1).astype(int)
    codes = 10.0 * factors - 5
    scores = sap(codes, factors, codes, factors)
    assert scores["accuracy"].diagonal().tolist() == [1, 1]
    assert scores["sap"] > 0.3


def test_constant_dimensions_cast_no_votes_and_have_no_robustness():
    codes = np.concatenate([PERFECT, np.full((60, 1), 0.1)], axis=1)
    scores = factor_vae_score(codes, GRID, **VOTES)
    assert scores["num_active_dims"] == 3
    assert scores["train_votes"].shape == (3, 4)
    assert scores["train_votes"][:, 3].sum() == 0
    assert irs(codes, GRID)["num_active_dims"] == 3


def test_constant_code_has_no_gap():
    codes = one_hot_codes()
    codes[:, 0] = 0
    assert self_mig(codes)["gaps"][0] == 0


def test_fast_protocol_ranks_codes_as_the_released_one_does():
    perfect, rotated = (
        dci(*split(codes), protocol="fast")["disentanglement"]
        for codes in (PERFECT, PERFECT @ ortho_group.rvs(3, random_state=0))
    )
    assert perfect > 0.95 > 0.6 > rotated


def test_dci_does_not_depend_on_the_number_of_jobs():
    alone, together = (dci(*split(PERFECT), n_jobs=n)["importance"] for n in (1, 2))
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("metric", [mig, irs])
def test_constant_factor_is_an_error(metric):
    with pytest.raises(ValueError, match="same value everywhere"):
        metric(PERFECT, np.zeros((60, 1), dtype=int))


def test_a_gap_needs_two_codes():
    with pytest.raises(ValueError, match="at least two"):
        mig(PERFECT[:, :1], GRID)


@pytest.mark.parametrize("metric", [dci, sap, modularity_explicitness])
def test_one_factor_alone_cannot_be_compared(metric):
    with pytest.raises(ValueError, match="two factors"):
        metric(PERFECT, GRID[:, :1], PERFECT, GRID[:, :1])


def test_disagreeing_shapes_are_an_error():
    with pytest.raises(ValueError, match="a row per image"):
        mig(PERFECT, GRID[:-1])
