"""A metric that is registered from outside is computed, printed, written, listed and accepted everywhere."""

import json
import re

import numpy as np
import pytest
from helpers.models import micro_pipeline

from fdae_diffusers.evaluation.disentanglement import EvaluationConfig, evaluate
from fdae_diffusers.metrics.suite import METRICS, Metric
from fdae_diffusers.utils.arguments import parse_config


def largest_correlation(codes, factors, *, protocol, seed):
    flat = np.asarray(codes).reshape(len(factors), -1)
    correlation = np.corrcoef(flat.T, factors.T)[: flat.shape[1], flat.shape[1] :]
    return {"largest": float(np.abs(correlation).max()), "matrix": correlation, "seed": seed}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    metric = Metric(largest_correlation, ("train", "seed"), headline="largest", title="Largest correlation")
    monkeypatch.setitem(METRICS, "correlation", metric)


def test_evaluation_computes_prints_and_writes_it(tmp_path, benchmark, capsys):
    micro_pipeline().save_pretrained(tmp_path)
    flags = ["--model", str(tmp_path), "--dataset", "shapes3d", "--dataset_path", benchmark, "--seed", "4"]
    config = parse_config(EvaluationConfig, [*flags, "--metrics", "correlation", "--num_train", "60", "--n_jobs", "1"])
    result = evaluate(config)
    score = result["correlation"]["largest"]
    assert 0 < score < 1
    assert result["correlation"]["seed"] == 4
    written = json.loads((tmp_path / "metrics.json").read_text())["correlation"]
    assert written[METRICS["correlation"].headline] == score
    assert np.shape(written["matrix"]) == (36, 6)
    assert re.search(rf"correlation +largest +{score:.4f}", capsys.readouterr().out)


def test_help_lists_it(capsys):
    with pytest.raises(SystemExit):
        parse_config(EvaluationConfig, ["--help"])
    assert "correlation" in capsys.readouterr().out
