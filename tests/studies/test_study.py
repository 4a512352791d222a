"""Studies, on a benchmark of 64 images."""

import json
import shutil
import signal

import numpy as np
import PIL.Image
import pytest
from helpers.models import MICRO_ENCODER, MICRO_UNET

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError, RunInterrupted
from fdae_diffusers.losses import LOSS_TERMS, LossTerm
from fdae_diffusers.metrics.suite import METRICS, Metric
from fdae_diffusers.studies import ablation, concepts, study
from fdae_diffusers.studies.table import mean_and_std, summarize
from fdae_diffusers.training import trainer
from fdae_diffusers.training.checkpoints import save_checkpoint
from fdae_diffusers.training.faults import GO_ON


def settings_for(benchmark, output_dir, **settings):
    return {
        "preset": "tiny-32",
        "unet": MICRO_UNET,
        "encoder": MICRO_ENCODER,
        "dataset_name": benchmark,
        "output_dir": str(output_dir),
        "max_train_steps": 4,
        "checkpointing_steps": 2,
        "train_batch_size": 8,
        "num_validation_images": 2,
        "num_inference_steps": 2,
        "report_to": "none",
        "seeds": [0],
        "dataset": "shapes3d",
        "dataset_path": benchmark,
        "protocol": "fast",
        "metrics": ["mig", "self_mig"],
        "num_train": 64,
        "num_test": 32,
        "num_train_votes": 20,
        "num_eval_votes": 10,
        **settings,
    }


@pytest.fixture
def ablate(benchmark, tmp_path):
    def ablate(**settings):
        table = ablation.ablate(ablation.AblationConfig(**settings_for(benchmark, tmp_path / "study", **settings)))
        assert table == (tmp_path / "study" / "ablation.md").read_text()
        return json.loads((tmp_path / "study" / "ablation.json").read_text())

    return ablate


@pytest.mark.slow
def test_rows_differ_in_concepts_and_weights_alone(ablate, tmp_path):
    runs = {run["row"]: run["training"]["config"] for run in ablate()["runs"]}
    expected = {
        "baseline": (1, 2.5e-5, 1e-4),
        "cmfnet": (3, 0, 0),
        "content_decorrelation": (3, 2.5e-5, 0),
        "mask_entropy": (3, 0, 1e-4),
        "full": (3, 2.5e-5, 1e-4),
    }
    changed = ("loss_weights", "output_dir", "num_concepts", "encoder")
    for name, config in runs.items():
        weights = (config["loss_weights"][term] for term in ("content_decorrelation", "mask_entropy"))
        assert (config["encoder"]["num_concepts"], *weights) == expected.pop(name)
        assert config["loss_weights"]["reconstruction"] == 1
        assert all(config[key] == runs["full"][key] for key in config if key not in changed)
    assert not expected
    assert FDAEPipeline.from_pretrained(tmp_path / "study" / "baseline-seed0").encoder.config.num_concepts == 1
    assert not list((tmp_path / "study").glob("*/checkpoint-*"))


def test_rows_are_those_of_the_paper():
    assert {name: row.title for name, row in ablation.ablation_rows().items()} == {
        "baseline": "E + G (DiffAE, N = 1)",
        "cmfnet": "+ CMFNet",
        "content_decorrelation": "+ CMFNet, L_CD",
        "mask_entropy": "+ CMFNet, L_ME",
        "full": "full (L_CD, L_ME)",
    }


def test_loss_term_from_outside_has_a_row(ablate, monkeypatch):
    term = LossTerm(lambda batch: batch.masks.mean(), weight=0.5, symbol="L_X", title="A term of one's own")
    monkeypatch.setitem(LOSS_TERMS, "mine", term)
    result = ablate(rows=["mine"])
    assert [row["title"] for row in result["rows"]] == ["+ CMFNet, L_X"]
    weights = result["runs"][0]["training"]["config"]["loss_weights"]
    assert weights == {"reconstruction": 1, "content_decorrelation": 0, "mask_entropy": 0, "mine": 0.5}


def test_weights_of_the_study_hold_where_a_row_has_none(ablate):
    weights = {"mask_entropy": 3e-4}
    runs = ablate(rows=["mask_entropy", "content_decorrelation"], loss_weights=weights)["runs"]
    recorded = {run["row"]: run["training"]["config"]["loss_weights"] for run in runs}
    assert recorded["mask_entropy"]["mask_entropy"] == 3e-4
    assert recorded["content_decorrelation"]["mask_entropy"] == 0


def test_two_invocations_give_one_table(ablate, tmp_path):
    ablate(rows=["full"], seeds=[1])
    result = ablate(rows=["baseline", "full"], seeds=[0])
    assert [(row["title"], row["seeds"]) for row in result["rows"]] == [
        ("E + G (DiffAE, N = 1)", [0]),
        ("full (L_CD, L_ME)", [0, 1]),
    ]
    scores = [run["scores"]["mig"]["mig"] for run in result["runs"] if run["row"] == "full"]
    assert result["rows"][1]["MIG"] == [pytest.approx(np.mean(scores)), pytest.approx(np.std(scores, ddof=1))]
    lines = (tmp_path / "study" / "ablation.md").read_text().splitlines()
    assert lines[0].startswith("| | MIG | self-MIG | CPU-minutes of training")
    assert f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}" in lines[3]


@pytest.mark.parametrize("row", ["baseline", "full"])
def test_runs_hold_scores_and_a_figure_of_the_importance(ablate, tmp_path, row):
    record = ablate(rows=[row], metrics=["dci"])["runs"][0]
    folder = tmp_path / "study" / f"{row}-seed0"
    scores = json.loads((folder / "metrics.json").read_text())["dci"]
    assert record["scores"]["dci"] == {name: value for name, value in scores.items() if name != "importance"}
    PIL.Image.open(folder / "importance.png").verify()
    assert "](importance.png)" in (folder / "README.md").read_text()


@pytest.mark.parametrize(("use_ema", "variant"), [(True, "ema"), (False, None)])
def test_averaged_weights_are_scored_where_there_are_any(ablate, tmp_path, use_ema, variant):
    ablate(rows=["full"], use_ema=use_ema)
    assert json.loads((tmp_path / "study" / "full-seed0" / "metrics.json").read_text())["variant"] == variant


def test_complete_runs_are_not_repeated(ablate, monkeypatch):
    before = ablate(rows=["full"])
    monkeypatch.setattr(study, "train", None)
    assert ablate(rows=["full"]) == before


def test_interrupted_study_goes_on_and_ends_the_same(ablate, tmp_path, monkeypatch):
    whole = ablate(rows=["full"])["runs"][0]["scores"]
    (tmp_path / "study").rename(tmp_path / "whole")

    def save_and_stop(*args):
        save_checkpoint(*args)
        raise KeyboardInterrupt

    def stop(*_):
        raise KeyboardInterrupt

    for owner, name, replacement in ((trainer, "save_checkpoint", save_and_stop), (study, "evaluate", stop)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, replacement)
            with pytest.raises(KeyboardInterrupt):
                ablate(rows=["full"])
    monkeypatch.setattr(study, "train", None)  # what is left is the evaluation
    result = ablate(rows=["full"])
    assert result["runs"][0]["training"]["first_step"] == 2
    assert result["rows"][0]["training_cpu_minutes"] is None  # not known
    assert result["runs"][0]["scores"] == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_train_steps": 5}, "max_train_steps=4"),
        ({"learning_rate": 1.0}, "learning_rate=0.0001"),
        ({"num_train": 65}, "num_train=64"),
        ({"protocol": "fdae"}, "protocol='fast'"),
    ],
)
def test_runs_with_other_settings_are_refused(ablate, benchmark, tmp_path, changes, message):
    study.open_study(study.StudyConfig(**settings_for(benchmark, tmp_path / "study")))
    with pytest.raises(FDAEError, match=message):
        ablate(rows=["baseline"], **changes)


def test_folder_of_something_else_is_refused(ablate, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "model_index.json").write_text("{}")
    with pytest.raises(FDAEError, match="something else than a study"):
        ablate()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": ["full", "empty"]}, "unknown rows empty"),
        ({"metrics": ["dcl"]}, "unknown metrics dcl"),
        ({"seed": 3}, "no seed"),
        ({"seeds": [1, 1]}, "repeated"),
    ],
)
def test_unusable_settings_are_refused(ablate, settings, message):
    with pytest.raises(FDAEError, match=message):
        ablate(**settings)


def test_mean_and_deviation_of_known_values():
    assert mean_and_std([1.0, 2.0, 6.0]) == (3.0, pytest.approx(7**0.5))
    assert mean_and_std([2.0]) == (2.0, None)
    assert mean_and_std([]) is None


def test_summary_leaves_out_the_cost_of_resumed_runs_and_scores_not_computed():
    def run(seed, mig, minutes, first_step=0):
        training = {"cpu_seconds": 60 * minutes, "first_step": first_step}
        return {"seed": seed, "scores": {"mig": {"mig": mig}}, "training": training, "evaluation": {"cpu_seconds": 90}}

    summary = summarize("title", [run(1, 0.5, 4), run(0, 0.3, 6), run(2, 0.4, 1, first_step=9)], ["dci", "mig"])
    assert summary == {
        "title": "title",
        "seeds": [0, 1, 2],
        METRICS["dci"].title: None,
        "MIG": (pytest.approx(0.4), pytest.approx(0.1)),
        "training_cpu_minutes": (5, pytest.approx(2**0.5)),
        "evaluation_cpu_minutes": (1.5, 0),
    }


def test_concepts_are_chosen_by_self_mig(benchmark, tmp_path):
    settings = settings_for(benchmark, tmp_path / "study", metrics=["self_mig"], candidates=[2, 3])
    chosen = concepts.select_concepts(concepts.SelectionConfig(**settings))
    runs = json.loads((tmp_path / "study" / "concepts.json").read_text())["runs"]
    assert [run["training"]["num_concepts"] for run in runs] == [2, 3]
    scores = {run["training"]["num_concepts"]: run["scores"]["self_mig"]["self_mig"] for run in runs}
    assert chosen == max(scores, key=scores.get)
    PIL.Image.open(tmp_path / "study" / "concepts.png").verify()
    assert all(run["health"]["num_alive"] <= run["training"]["num_concepts"] for run in runs)
    table = (tmp_path / "study" / "concepts.md").read_text()
    assert "| strongest mask | concepts alive |" in table
    assert f"Recommended: **N = {chosen}**" in table
    for changes in ({"candidates": [1]}, {"metrics": ["mig"]}):
        with pytest.raises(FDAEError):
            concepts.SelectionConfig(**settings | changes)


def test_concepts_are_chosen_without_labels(image_folder, tmp_path):
    unlabelled = {"dataset_name": None, "dataset_path": None, "train_data_dir": str(image_folder), "num_train": 20}
    settings = settings_for(None, tmp_path / "study", metrics=["self_mig"], candidates=[2]) | unlabelled
    del settings["dataset"]
    with pytest.raises(FDAEError, match="20 images at least"):
        concepts.select_concepts(concepts.SelectionConfig(**settings))
    for number in range(20):
        shutil.copy(image_folder / f"{number % 10}.png", image_folder / f"copy-{number}.png")
    chosen = concepts.select_concepts(concepts.SelectionConfig(**settings, max_train_samples=24))
    assert chosen == 2
    (run,) = json.loads((tmp_path / "study" / "concepts.json").read_text())["runs"]
    assert run["evaluation"]["counts"]["train"] == 20  # num_train of the training images
    assert 0 <= run["scores"]["self_mig"]["self_mig"] <= 1
    assert "20 images without labels" in (tmp_path / "study" / "concepts.md").read_text()
    with pytest.raises(FDAEError, match="mig need labels"):
        concepts.SelectionConfig(**settings | {"metrics": ["self_mig", "mig"]})


def row_of(self_mig, crispness=0.9, alive=4.0, psnr=30.0):
    pairs = {"psnr": (psnr, None), "crispness": (crispness, None), "num_alive": (alive, None)}
    return {METRICS["self_mig"].title: (self_mig, None), "health": pairs}


@pytest.mark.parametrize(
    "fault", [{"crispness": 0.5}, {"alive": 3.4}, {"psnr": 28.5}, {"psnr": float("nan")}, {}], ids=str
)
def test_recommended_concepts_are_the_highest_of_the_sound(fault):
    rows = {4: row_of(0.9, **fault), 3: row_of(0.5, alive=3.0), 2: row_of(0.4, alive=2.0)}
    chosen, text = concepts.recommend(rows)
    assert chosen == (3 if fault else 4)
    assert ("Not sound: N = 4" in text) == bool(fault)


def test_without_a_sound_candidate_the_highest_is_named_with_a_warning():
    chosen, text = concepts.recommend({3: row_of(0.5, crispness=0.4), 2: row_of(0.4, crispness=0.55)})
    assert chosen == 3
    assert "none is sound" in text


def test_metric_from_outside_is_a_column(monkeypatch):
    monkeypatch.setitem(METRICS, "mine", Metric(dict, needs=(), headline="value", title="Mine"))
    run = {
        "seed": 0,
        "scores": {"mine": {"value": 0.25, "other": 1.0}},
        "training": {"cpu_seconds": 60, "first_step": 0},
        "evaluation": {"cpu_seconds": 90},
    }
    assert summarize("title", [run], list(METRICS))["Mine"] == (0.25, None)


def test_benchmark_is_looked_for_before_training(ablate, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "train", None)
    with pytest.raises(FDAEError, match="cars3d is not on the Hub"):
        ablate(dataset="cars3d", dataset_path=None)
    assert not (tmp_path / "study").exists()  # so that other settings are welcome


def test_study_tells_how_it_goes_on(ablate, monkeypatch):
    def interrupted(config):
        raise RunInterrupted(signal.SIGTERM, "go on with --resume_from_checkpoint latest")

    def failed(config):
        raise FDAEError(f"the disk is full; make room, and {GO_ON}")

    monkeypatch.setattr(study, "train", interrupted)
    with pytest.raises(RunInterrupted, match="the same command goes on") as error:
        ablate()
    assert error.value.exit_status == 143
    monkeypatch.setattr(study, "train", failed)
    with pytest.raises(FDAEError, match=r"make room, and go on with the same command$"):
        ablate()


def test_baseline_is_not_compared_with_itself(ablate):
    with pytest.raises(FDAEError, match="num_concepts=1 is the row baseline"):
        ablate(num_concepts=1)
