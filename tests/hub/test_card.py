"""The model card: what it tells of a run, of scores and of pictures."""

import json
import os
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.training import config_for
from huggingface_hub import ModelCard

from fdae_diffusers.hub.card import write_model_card
from fdae_diffusers.hub.files import ATTRIBUTES_FILE, MASKS_FILE, METRICS_FILE, SWAPS_FILE, TRAINING_FILE
from fdae_diffusers.metrics.suite import METRICS, Metric
from fdae_diffusers.training import train

SCORES = {
    "dataset": "shapes3d-rendered",
    "protocol": "fdae",
    "seed": 0,
    "counts": {"train": 100, "test": 50, "train_votes": 30, "eval_votes": 20},
    "dci": {"disentanglement": 0.8765, "completeness": 0.5, "informativeness_test": 0.9},
    "mig": {"mig": 0.4321},
}
SWAPS = {
    "num_pairs": 20,
    "num_inference_steps": 4,
    "edits": {"floor content": {"changed": ["floor_hue"], "all_as_expected": 0.8125, "psnr": 31.25}},
}
ATTRIBUTES = {
    "dataset_name": "/home/someone/faces",
    "attributes": {"smiling": {"accuracy": 0.9125, "majority_rate": 0.5, "chance": 0.5, "values": 2}},
    "mean_accuracy": 0.9125,
}


@pytest.fixture(scope="module")
def micro_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("run") / "fdae-micro"
    return train(config_for(output_dir, max_train_steps=1))


@pytest.fixture
def run(micro_run):
    """A run; what a test changes in its folder is undone."""
    before = {path: path.read_bytes() for path in micro_run.iterdir() if path.is_file()}
    yield micro_run
    for path in micro_run.iterdir():
        if path.is_file() and path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)


def change_record(run, **config):
    """Change the recorded settings of a run; other fields by their name with a leading underscore."""
    record = json.loads((run / TRAINING_FILE).read_text())
    for name, value in config.items():
        owner, key = (record, name[1:]) if name.startswith("_") else (record["config"], name)
        if value is KeyError:
            owner.pop(key, None)
        else:
            owner[key] = value
    (run / TRAINING_FILE).write_text(json.dumps(record))


def card_of(run):
    return ModelCard.load(write_model_card(run))


def test_card_tells_settings_and_that_nothing_was_measured_yet(run):
    card = ModelCard.load(run / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets is None
    assert "1 of 8 images, seed 0" in card.content
    assert "Not measured yet" in card.content
    assert "# fdae-micro\n" in card.content
    assert "{{" not in card.content


def test_scores_stand_in_the_card_and_in_its_metadata(run):
    (run / METRICS_FILE).write_text(json.dumps(SCORES))
    change_record(run, _model_id="org/fdae-micro")
    card = card_of(run)
    assert f"| {METRICS['dci'].title} | 0.876 |" in card.content
    assert "| MIG | 0.432 |" in card.content
    assert "# fdae-micro\n" in card.content
    assert 'from_pretrained("org/fdae-micro")' in card.content
    results = {result.metric_type: result for result in card.data.eval_results}
    assert len(results) == 2
    assert results["mig"].metric_value == 0.4321
    assert results["mig"].dataset_name == "shapes3d-rendered"
    assert "protocol fdae" in results["mig"].metric_name


def test_metric_added_from_outside_is_shown(run, monkeypatch):
    metric = Metric(dict, needs=("train",), headline="mean", title="Sharpness")
    monkeypatch.setitem(METRICS, "sharpness", metric)
    (run / METRICS_FILE).write_text(json.dumps({**SCORES, "sharpness": {"mean": 0.125, "std": 3.0}}))
    card = card_of(run)
    assert "| Sharpness | 0.125 |" in card.content
    assert {result.metric_type for result in card.data.eval_results} >= {"sharpness", "mig"}


@pytest.mark.parametrize(("data_on_hub", "listed"), [(True, ["org/shapes"]), (False, None)])
def test_data_on_the_hub_are_listed_and_local_ones_are_not(run, data_on_hub, listed):
    assert json.loads((run / TRAINING_FILE).read_text())["data_on_hub"] is False
    change_record(run, dataset_name="org/shapes", _data_on_hub=data_on_hub)
    assert card_of(run).data.datasets == listed


@pytest.mark.parametrize(
    "dataset", [{"dataset_name": "/home/someone/shapes"}, {"train_data_dir": "/mnt/private/shapes"}]
)
def test_no_absolute_path_stands_in_the_card(run, dataset):
    change_record(run, **{"dataset_name": None, "train_data_dir": None, **dataset})
    (run / ATTRIBUTES_FILE).write_text(json.dumps(ATTRIBUTES))
    content = card_of(run).content
    assert "| data | shapes |" in content
    assert not re.search(r"/home/|/mnt/|/tmp/", content)
    assert str(run.parent) not in content


def test_card_says_which_variant_was_scored(run):
    for variant, says in ((None, "Shapes3D), protocol `fdae`"), ("ema", "variant `ema`, protocol `fdae`")):
        (run / METRICS_FILE).write_text(json.dumps({**SCORES, "variant": variant}))
        assert says in write_model_card(run).read_text()


def test_swaps_and_attributes_are_shown_where_they_were_measured(run):
    assert "### Swaps" not in card_of(run).content
    assert "### Attributes" not in card_of(run).content
    (run / SWAPS_FILE).write_text(json.dumps(SWAPS))
    (run / ATTRIBUTES_FILE).write_text(json.dumps(ATTRIBUTES))
    content = card_of(run).content
    assert "| floor content | floor_hue | 0.812 | 31.2 |" in content
    assert "| smiling | 0.912 | 0.500 |" in content


def test_swaps_on_a_grid_and_masks_are_shown_where_they_were_measured(run):
    edit = {"becomes": {"hair": 0.98, "frame": 0.0}, "stays": {"hair": 0.01, "frame": 0.75}}
    edits = {"content 1": edit, "all content": {**edit, "expected": ["hair"], "all_as_expected": 0.75}}
    swaps = {"dataset": "sprites", "num_pairs": 20, "num_inference_steps": 4}
    swaps |= {"factors_read": {"hair": 1.0, "frame": 1.0}, "edits": edits}
    (run / SWAPS_FILE).write_text(json.dumps(swaps))
    masks = {"dataset": "sprites", "num_images": 50, "foreground_ari": 0.875, "best_iou": 0.8125}
    (run / MASKS_FILE).write_text(json.dumps({**masks, "consistency": 0.5, "crispness": 0.9}))
    content = card_of(run).content
    assert "| content 1 | 0.98 / 0.01 | 0.00 / 0.75 |  |" in content
    assert "| all content | 0.98 / 0.01 | 0.00 / 0.75 | 0.750 |" in content
    assert "foreground ARI 0.875" in content
    assert "50 % of the cases" in content
    (run / MASKS_FILE).write_text(json.dumps({**masks, "foreground_ari": None, "consistency": 0.5, "crispness": 0.9}))
    assert "foreground ARI none" in card_of(run).content


def test_weights_of_the_loss_terms_are_those_of_the_record(run):
    change_record(run, loss_weights={"reconstruction": 1.0, "mask_entropy": 1e-3, "mine": 0.5})
    assert "| loss weights | mask entropy 0.001, mine 0.5 (" in card_of(run).content
    # as they were recorded before there were others
    change_record(run, loss_weights=KeyError, content_decorrelation_weight=2.5e-5, mask_entropy_weight=1e-4)
    assert "| loss weights | content decorrelation 2.5e-05, mask entropy 0.0001 (" in card_of(run).content


def test_card_says_what_a_benchmark_is(run):
    (run / METRICS_FILE).write_text(json.dumps(SCORES))
    content = card_of(run).content
    assert "are not the real Shapes3D" in content
    assert "On shapes3d-rendered (rendered again, not the real Shapes3D)" in content
    change_record(run, dataset_name="org/photographs")
    assert "are not the real Shapes3D" not in card_of(run).content


@pytest.mark.parametrize("grain", [{}, {"grain": 0.0125}])
def test_psnr_is_shown_by_the_number_of_steps(run, grain):
    change_record(run, _sampling=KeyError)
    assert "| steps | PSNR (dB) |" not in card_of(run).content
    change_record(run, _sampling=[{"num_inference_steps": steps, "psnr": 30.04 + steps, **grain} for steps in (1, 2)])
    content = card_of(run).content
    assert ("| 2 | 32.0 | 0.0125 |" if grain else "| 2 | 32.0 |\n") in content


def test_record_of_an_older_version_has_a_card(run):
    old = json.loads((ROOT / "model_cards" / "fdae-shapes3d-rendered-32" / TRAINING_FILE).read_text())
    for name in ("model_id", "data_on_hub", "sampling"):
        old.pop(name, None)
    for name in ("use_ema", "output_dir", "license", "mask_init"):
        del old["config"][name]
    (run / TRAINING_FILE).write_text(json.dumps(old))
    assert "22,000 of 16 images" in card_of(run).content


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("rendered", [True, False])
def test_snippet_of_the_card_runs_as_it_stands(run, tmp_path, rendered):
    if not rendered:
        change_record(run, dataset_name="org/photographs")
    (tmp_path / run.name).symlink_to(run)
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes((ROOT / "docs" / "images" / ("masks.png", "concepts.png")[number]).read_bytes())
    snippet = re.search(r"```python\n(.*?)```", card_of(run).content, re.DOTALL)[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, env=environment, check=True, timeout=300)
    assert (tmp_path / "swapped.png").exists()
