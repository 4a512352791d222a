"""The scores of a model on a benchmark, and the files that they leave."""

import json

import numpy as np
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
        defaults |= {"num_train_votes": 40, "num_eval_votes": 20, "overwrite": True}
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


def test_leak_is_printed_for_each_code_and_factor(score, tmp_path, capsys):
    result = score(metrics=["leak"])["leak"]
    written = json.loads((tmp_path / "metrics.json").read_text())["leak"]
    np.testing.assert_array_equal(written["skill"], result["skill"])
    assert result["mask_leak"] == pytest.approx(result["mask"][:3].mean())  # of the three hues
    printed = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(printed) if line.startswith("predicted from"))
    assert [name for name in printed[start].split() if name.endswith("*")] == [
        "floor_hue*",
        "wall_hue*",
        "object_hue*",
    ]
    rows = {line[:14].strip(): line[16:].split() for line in printed[start + 1 : start + 9]}
    assert list(rows) == [
        "content 0",
        "content 1",
        "content 2",
        "all content",
        "mask 0",
        "mask 1",
        "mask 2",
        "all masks",
    ]
    assert rows["mask 1"] == [f"{value:.2f}" for value in result["skill"][4]]


def test_leak_of_a_single_concept_has_no_masks(score, capsys):
    assert np.isnan(score(micro_pipeline(num_concepts=1), metrics=["leak"])["leak"]["mask_leak"])
    printed = capsys.readouterr().out
    assert "content 0" in printed
    assert "all masks" not in printed


def test_unknown_benchmark_is_told_the_names_there_are(score):
    with pytest.raises(FDAEError, match=r"shapes3d-rendered, .*cars3d"):
        score(dataset="shapes")


def test_scores_are_replaced_only_when_asked_and_before_any_work(score, tmp_path, monkeypatch):
    score(seed=1)
    monkeypatch.setattr(evaluation, "load_benchmark", None)
    with pytest.raises(FDAEError, match=r"metrics\.json exists"):
        score(overwrite=False)
    assert json.loads((tmp_path / "metrics.json").read_text())["seed"] == 1


def test_results_name_folders_without_their_paths_and_the_variant(score, tmp_path):
    other = micro_pipeline(seed=1)
    for name in ("unet", "encoder"):
        getattr(other, name).save_pretrained(tmp_path / name, variant="ema")
    results = [score(), score(variant="ema")]
    assert [result["variant"] for result in results] == [None, "ema"]
    assert results[0]["mig"]["mig"] != results[1]["mig"]["mig"]
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text)["model"] == tmp_path.name
    assert str(tmp_path.parent) not in text


def test_only_images_that_are_drawn_are_encoded_with_the_same_scores(score, monkeypatch):
    full = score(metrics=["mig", "factor_vae"], num_train=20)["mig"]
    encode, encoded = evaluation.encode_dataset, []

    def counting(encoder, images, *args):
        encoded.append(len(images))
        return encode(encoder, images, *args)

    monkeypatch.setattr(evaluation, "encode_dataset", counting)
    part = score(metrics=["mig"], num_train=20)["mig"]
    assert encoded[0] <= 20
    np.testing.assert_equal(part, full)


@pytest.mark.parametrize("protocol", ["fast", "scalar"])
def test_content_and_mask_codes_may_differ_in_size(score, tmp_path, protocol):
    result = score(
        micro_pipeline(content_dim=6, mask_dim=4), metrics=["dci", "mig", "factor_vae"], protocol=protocol, num_test=64
    )
    assert (tmp_path / "importance.png").exists()
    if protocol == "fast":
        assert result["components"] == [6, 6, 6, 4, 4, 4]
    importance = np.arange(30.0).reshape(30, 1)
    even = evaluation.even_rows(importance, result["components"], [6, 6, 6, 4, 4, 4])
    assert even.shape == (36, 1)
    np.testing.assert_array_equal(even[18:24, 0], [18, 19, 20, 21, 0, 0])
