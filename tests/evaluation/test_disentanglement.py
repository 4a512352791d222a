"""The scores of a model on a benchmark, and the files that they leave."""

import json

import pytest
from helpers.models import micro_pipeline

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation import disentanglement as evaluation
from fdae_diffusers.evaluation.disentanglement import EvaluationConfig, evaluate


@pytest.fixture
def score(benchmark, tmp_path):
    def score(pipeline=None, **settings):
        (pipeline or micro_pipeline()).save_pretrained(tmp_path)
        defaults = {"protocol": "fast", "metrics": ["mig"], "num_train": 64, "num_test": 32, "n_jobs": 1}
        names = {"model": str(tmp_path), "dataset": "shapes3d", "dataset_path": benchmark}
        return evaluate(EvaluationConfig(**{**names, **defaults, **settings}))

    return score


def test_figure_is_that_of_the_scores_beside_it(score, tmp_path):
    score(metrics=["dci"])
    own = (tmp_path / "importance.png").read_bytes()
    score(metrics=["dci"], seed=1, output=str(tmp_path / "second.json"))
    assert (tmp_path / "importance.png").read_bytes() == own
    assert (tmp_path / "second-importance.png").read_bytes() != own
    assert json.loads((tmp_path / "metrics.json").read_text())["seed"] == 0
    score(metrics=["mig"])  # takes the place of the scores that the figure was of
    assert not (tmp_path / "importance.png").exists()


def test_what_cannot_be_scored_is_refused_before_images_are_encoded(score, monkeypatch):
    monkeypatch.setattr(evaluation, "encode_dataset", None)
    with pytest.raises(FDAEError, match="38 codes cannot share 36 principal components"):
        score(micro_pipeline(num_concepts=19))
    with pytest.raises(FDAEError, match="num_train must be at least 20"):
        score(num_train=19)
    with pytest.raises(FDAEError, match="num_eval_votes must be at least 1"):
        score(num_eval_votes=0)
    load = evaluation.load_benchmark
    monkeypatch.setattr(evaluation, "load_benchmark", lambda *args: (range(63), load(*args)[1][:-1]))
    with pytest.raises(FDAEError, match="no full grid: 1 combinations missing"):
        score()


def test_what_metrics_refuse_is_told_in_one_line(score):
    with pytest.raises(FDAEError, match=r"^cannot score .* on shapes3d: factors .* same value everywhere"):
        score(metrics=["sap"], num_test=1)


def test_unknown_benchmark_is_told_the_names_there_are(score):
    with pytest.raises(FDAEError, match=r"shapes3d-rendered, .*cars3d"):
        score(dataset="shapes")
