"""`evaluate_codes`: one representation, all metrics, and how they came about."""

import io
import sys

import numpy as np
import pytest
import torch

from fdae_diffusers.codes import FDAECodes
from fdae_diffusers.metrics import evaluate_codes
from fdae_diffusers.metrics.factor_grid import FactorGrid
from fdae_diffusers.metrics.suite import METRICS, Metric, drawn_rows

SIZES = (4, 3, 5)
GRID = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1)
SMALL = {"num_train": 200, "num_test": 100, "num_train_votes": 100, "num_eval_votes": 50, "progress": False}
ALL = tuple(METRICS)
LEAK = {"num_concepts": 2, "appearance": [True, False, False]}  # of four codes


def vector_codes(num_codes=3):
    embeddings = np.random.default_rng(0).standard_normal((num_codes, 5, 8))
    return np.stack([embeddings[k][GRID[:, k % 3]] for k in range(num_codes)], axis=1)  # (60, K, 8)


def test_every_metric_is_computed_and_says_how():
    result = evaluate_codes(vector_codes(4), GRID, metrics=ALL, protocol="fast", seed=3, **LEAK, **SMALL)
    for name, metric in METRICS.items():
        assert 0 <= result[name][metric.headline] <= 1, name
    assert result["protocol"] == "fast"
    assert "not comparable" in result["representation"]
    assert result["seed"] == 3
    assert result["counts"]["train"] == 200
    assert result["counts"]["images"] == 60
    assert {"numpy", "scikit-learn"} < set(result["versions"])


def test_leak_is_told_by_kind_of_code():
    """Of four codes, two of content know factors 0 and 1, two of masks 2 and 0."""
    settings = {"metrics": ["leak"], "num_concepts": 2, **SMALL}
    looks, places = (
        evaluate_codes(vector_codes(4), GRID, appearance=appearance, **settings)["leak"]
        for appearance in ([True, False, False], [False, False, True])
    )
    assert looks["skill"].shape == (4, 3)
    assert looks["mask_leak"] == looks["mask"][0] > 0.95
    assert places["mask_leak"] == looks["mask"][2] > 0.95
    assert looks["content_leak"] == pytest.approx(looks["content"][1:].mean())
    with pytest.raises(ValueError, match="number of concepts"):
        evaluate_codes(vector_codes(4), GRID, metrics=["leak"], **SMALL)


def test_default_metrics_are_those_of_the_paper():
    result = evaluate_codes(vector_codes(), GRID, **SMALL)
    assert result["factor_vae"]["eval_accuracy"] == 1
    assert result["mig"]["mig"] > 0.9
    assert result["self_mig"]["self_mig"] > 0.9
    assert result["dci"]["importance"].shape == (24, 3)


def test_row_order_does_not_matter():
    codes, order = vector_codes(), np.random.default_rng(1).permutation(60)
    for metric in ("mig", "factor_vae"):
        one, other = (
            evaluate_codes(c, f, metrics=[metric], **SMALL) for c, f in ((codes, GRID), (codes[order], GRID[order]))
        )
        for name, value in one[metric].items():
            np.testing.assert_allclose(other[metric][name], value)


def test_metrics_do_not_depend_on_each_other():
    alone = evaluate_codes(vector_codes(), GRID, metrics=["mig"], **SMALL)["mig"]["mig"]
    assert evaluate_codes(vector_codes(), GRID, metrics=["factor_vae", "mig"], **SMALL)["mig"]["mig"] == alone


def test_single_code_is_scored_by_its_dimensions():
    codes = np.random.default_rng(0).standard_normal((60, 1, 8))
    result = evaluate_codes(codes, GRID, metrics=["mig", "factor_vae"], **SMALL)
    assert result["mig"]["mutual_information"].shape == (8, 3)
    assert "single code" in result["representation"]
    scalar = evaluate_codes(codes[:, 0], GRID, metrics=["mig"], protocol="scalar", **SMALL)
    assert scalar["mig"]["mig"] == result["mig"]["mig"]


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (vector_codes()[:-1], GRID[:-1], "1 combinations missing"),
        (vector_codes(), np.concatenate([GRID[:-1], GRID[:1]]), "1 combinations missing, 1 repeated"),
        (vector_codes()[:-1], GRID, "a row per image"),
        (vector_codes(), GRID.astype(float), "integers"),
    ],
)
def test_no_full_grid_is_an_error(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        evaluate_codes(codes, factors, **SMALL)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="unknown metrics"):
        evaluate_codes(vector_codes(), GRID, metrics=["dcl"], **SMALL)
    with pytest.raises(ValueError, match="oracle"):
        Metric(print, ("train", "oracle"), "x", "X")
    with pytest.raises(ValueError, match="protocol must be one of"):
        evaluate_codes(vector_codes(), GRID, protocol="paper", **SMALL)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_progress_bars_are_for_terminals_and_can_be_switched_off(monkeypatch, stream, progress, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    evaluate_codes(vector_codes(), GRID, metrics=["mig"], **SMALL | {"progress": progress})
    assert ("Metrics" in sys.stderr.getvalue()) == shown


@pytest.mark.parametrize("metrics", [["dci"], ["mig", "self_mig"]])
def test_only_the_drawn_rows_matter(metrics):
    counts = SMALL | {"num_train": 40, "num_test": 5}
    rows = drawn_rows(FactorGrid(GRID, 60), metrics, 2, 40, 5)
    assert len(rows) < 40
    blank = np.zeros_like(vector_codes())
    blank[rows] = vector_codes()[rows]
    full, part = (evaluate_codes(codes, GRID, metrics=metrics, seed=2, **counts) for codes in (vector_codes(), blank))
    for name in metrics:
        np.testing.assert_equal(part[name], full[name])
    assert drawn_rows(FactorGrid(GRID, 60), [*metrics, "factor_vae"], 2, 40, 5) is None


def test_sizes_of_content_and_mask_codes_may_differ():
    codes = vector_codes(4)
    array = evaluate_codes(codes, GRID, metrics=ALL, protocol="fast", **LEAK, **SMALL)
    equal = FDAECodes(torch.from_numpy(codes[:, :2]), torch.from_numpy(codes[:, 2:]))
    np.testing.assert_equal(evaluate_codes(equal, GRID, metrics=ALL, protocol="fast", **LEAK, **SMALL), array)
    longer = FDAECodes(torch.from_numpy(np.pad(codes[:, :2], ((0, 0), (0, 0), (0, 3)))), equal.mask)
    padded = evaluate_codes(longer, GRID, metrics=ALL, protocol="fast", **LEAK, **SMALL)
    # PCA leaves out what does not vary, but for rounding
    assert padded["mig"]["mig"] == pytest.approx(array["mig"]["mig"])
    assert padded["components"] == [9, 9, 8, 8]
    assert array["components"] == [8, 8, 8, 8]
    assert "9 of 11 or 8 of 8 dimensions" in padded["representation"]
