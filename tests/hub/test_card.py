import json

import pytest
from helpers.training import config_for
from huggingface_hub import HfApi, ModelCard, RepoUrl
from huggingface_hub.errors import HTTPError

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.card import write_model_card
from fdae_diffusers.hub.publish import publish
from fdae_diffusers.training import train
from training.push_to_hub import UploadConfig, push

SCORES = {
    "dataset": "shapes3d-rendered",
    "protocol": "fdae",
    "seed": 0,
    "counts": {"train": 100, "test": 50, "train_votes": 30, "eval_votes": 20},
    "dci": {"disentanglement": 0.8765, "completeness": 0.5, "informativeness_test": 0.9},
    "mig": {"mig": 0.4321},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("run") / "fdae-micro"
    return train(config_for(output_dir, checkpointing_steps=3, validation_steps=3, report_to="tensorboard"))


def test_card_tells_settings_and_that_nothing_was_measured_yet(run):
    card = ModelCard.load(run / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets is None
    assert "6 of 8 images, seed 0" in card.content
    assert "Not measured yet" in card.content
    assert "# fdae-micro\n" in card.content
    assert "{{" not in card.content


def test_scores_stand_in_the_card_and_in_its_metadata(run):
    (run / "metrics.json").write_text(json.dumps(SCORES))
    record = (run / "training.json").read_text()
    (run / "training.json").write_text(json.dumps({**json.loads(record), "model_id": "org/fdae-micro"}))
    card = ModelCard.load(write_model_card(run))
    (run / "training.json").write_text(record)
    (run / "metrics.json").unlink()
    assert "| DCI disentanglement | 0.876 |" in card.content
    assert "| MIG | 0.432 |" in card.content
    assert "# fdae-micro\n" in card.content
    assert 'from_pretrained("org/fdae-micro")' in card.content
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["mig"].metric_value == 0.4321
    assert results["dci-disentanglement"].dataset_name == "shapes3d-rendered"
    assert "protocol fdae" in results["mig"].metric_name


@pytest.mark.parametrize(("data_on_hub", "listed"), [(True, ["org/shapes"]), (False, None)])
def test_data_on_the_hub_are_listed_and_local_ones_are_not(run, data_on_hub, listed):
    record = (run / "training.json").read_text()
    changed = json.loads(record)
    assert changed["data_on_hub"] is False
    changed["config"]["dataset_name"], changed["data_on_hub"] = "org/shapes", data_on_hub
    (run / "training.json").write_text(json.dumps(changed))
    assert ModelCard.load(write_model_card(run)).data.datasets == listed
    (run / "training.json").write_text(record)


def test_card_says_which_variant_was_scored(run):
    for variant, says in ((None, "On shapes3d-rendered, protocol `fdae`"), ("ema", "variant `ema`, protocol `fdae`")):
        (run / "metrics.json").write_text(json.dumps({**SCORES, "variant": variant}))
        assert says in write_model_card(run).read_text()
    (run / "metrics.json").unlink()


def test_published_files_are_the_model_and_nothing_else(run, tmp_path):
    target = tmp_path / "upload"
    (run / "attention.png").write_bytes(b"")
    push(UploadConfig(model=str(run), repo_id="org/fdae-micro", dry_run_dir=str(target)))
    assert 'from_pretrained("org/fdae-micro")' in (target / "README.md").read_text()
    assert isinstance(FDAEPipeline.from_pretrained(target), FDAEPipeline)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()) == [
        "README.md",
        "encoder/config.json",
        "encoder/diffusion_pytorch_model.safetensors",
        "masks.png",
        "model_index.json",
        "reconstructions.png",
        "scheduler/scheduler_config.json",
        "swap_grid.png",
        "training.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    with pytest.raises(FDAEError, match="exists"):
        push(UploadConfig(model=str(run), repo_id="org/fdae-micro", dry_run_dir=str(target)))
    with pytest.raises(FDAEError, match="no output folder"):
        push(UploadConfig(model=str(tmp_path), repo_id="org/fdae-micro"))


def test_push_creates_the_repository_and_uploads_one_commit(run, monkeypatch):
    calls = []

    def create_repo(self, repo_id, **options):
        calls.append(("create", repo_id, options["private"]))
        return RepoUrl(f"https://huggingface.co/me/{repo_id}")

    def upload_folder(self, **options):
        calls.append(("upload", options["repo_id"], "checkpoint-3" in options["allow_patterns"]))
        assert options["delete_patterns"] == options["allow_patterns"]  # nothing stays of the model before

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    assert push(UploadConfig(model=str(run), repo_id="fdae-micro", private=True)) == "me/fdae-micro"
    assert calls == [("create", "fdae-micro", True), ("upload", "me/fdae-micro", False)]
    assert 'from_pretrained("me/fdae-micro")' in (run / "README.md").read_text()


@pytest.mark.parametrize("error", [OSError("no token"), HTTPError("no connection")])
def test_pushing_without_a_login_or_the_hub_is_refused_before_training(tmp_path, monkeypatch, error):
    def create_repo(self, repo_id, **options):
        raise error

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    with pytest.raises(FDAEError, match=rf"{error}.*hf auth login"):
        train(config_for(tmp_path / "run", push_to_hub=True))
    assert not list((tmp_path / "run").iterdir())


def test_pushing_to_what_is_no_name_is_refused_before_training(tmp_path):
    with pytest.raises(FDAEError, match=r"cannot push to the Hub: .*my model"):
        train(config_for(tmp_path / "run", push_to_hub=True, hub_model_id="my model"))


def test_model_is_complete_when_the_hub_cannot_be_reached_at_the_end(run, monkeypatch):
    def upload_folder(self, **options):
        raise HTTPError("no connection")

    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    with pytest.raises(FDAEError, match=r"no connection\. The model is complete in .*fdae-micro"):
        publish(run, "org/fdae-micro")


def test_dry_run_of_a_push_needs_no_login(tmp_path):
    output_dir = train(
        config_for(
            tmp_path / "run",
            max_train_steps=1,
            push_to_hub=True,
            hub_model_id="org/name",
            hub_dry_run_dir=str(tmp_path / "up"),
        )
    )
    assert (tmp_path / "up" / "model_index.json").exists()
    assert 'from_pretrained("org/name")' in (output_dir / "README.md").read_text()
