"""Uploads to the Hub: what goes there, what stays, and what is refused."""

import json

import huggingface_hub
import pytest
from helpers.fake_hub import FakeHub
from helpers.training import config_for
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.publish import UploadConfig, publish, push
from fdae_diffusers.training import train

PIPELINE_FILES = [
    "encoder/config.json",
    "encoder/diffusion_pytorch_model.ema.safetensors",
    "encoder/diffusion_pytorch_model.safetensors",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
]
RUN_FILES = [
    "README.md",
    "examples.png",
    "health.ema.json",
    "health.json",
    "masks.png",
    "reconstructions.png",
    "swap_grid.png",
    "training.json",
]
MEASURED = ["metrics.json", "importance.png", "masks.json", "swaps.json", "attributes.json", "code_basis.safetensors"]
# Of an averaged model, beside its own.
MEASURED += ["metrics.ema.json", "code_basis.ema.safetensors"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with averaged weights, a checkpoint, and something of the user's own."""
    output_dir = tmp_path_factory.mktemp("run") / "fdae-micro"
    train(config_for(output_dir, max_train_steps=2, checkpointing_steps=1, use_ema=True, report_to="tensorboard"))
    (output_dir / "attention.png").write_bytes(b"")
    return output_dir


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process talks to."""
    with FakeHub() as hub:
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        yield hub
        huggingface_hub.close_session()


def copied(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_published_files_are_the_model_and_nothing_else(run, tmp_path, capsys):
    target = tmp_path / "upload"
    push(UploadConfig(model=str(run), repo_id="org/fdae-micro", dry_run_dir=str(target)))
    said = capsys.readouterr().out
    assert str(target) in said
    assert "nothing was uploaded" in said
    assert 'from_pretrained("org/fdae-micro")' in (target / "README.md").read_text()
    assert isinstance(FDAEPipeline.from_pretrained(target), FDAEPipeline)
    assert copied(target) == sorted([*PIPELINE_FILES, *RUN_FILES])
    with pytest.raises(FDAEError, match="exists"):
        push(UploadConfig(model=str(run), repo_id="org/fdae-micro", dry_run_dir=str(target)))
    with pytest.raises(FDAEError, match="no output folder"):
        push(UploadConfig(model=str(tmp_path), repo_id="org/fdae-micro"))


def test_upload_brings_the_same_files_in_one_commit(run, hub, capsys):
    assert push(UploadConfig(model=str(run), repo_id="org/fdae-micro", private=True)) == "org/fdae-micro"
    assert "uploaded to org/fdae-micro" in capsys.readouterr().out
    assert sorted(hub.files("org/fdae-micro")) == sorted([*PIPELINE_FILES, *RUN_FILES])
    assert len(hub.commits["org/fdae-micro"]) == 2  # the empty one that created it, and ours
    assert 'from_pretrained("org/fdae-micro")' in (run / "README.md").read_text()
    assert isinstance(FDAEPipeline.from_pretrained("org/fdae-micro"), FDAEPipeline)


def test_what_was_measured_is_uploaded_and_deleted_again_with_the_model(run, hub):
    hub.commit("org/fdae-micro", {})
    for name in MEASURED:
        (run / name).write_text("{}")
    try:
        publish(run, "org/fdae-micro")
        assert set(hub.files("org/fdae-micro")) >= set(MEASURED)
    finally:
        for name in MEASURED:
            (run / name).unlink()
    publish(run, "org/fdae-micro")  # of a new model, not measured yet
    assert not set(hub.files("org/fdae-micro")) & set(MEASURED)


def test_other_files_of_the_repository_stay(run, hub):
    hub.commit("org/fdae-micro", {".gitattributes": b"", "NOTES.md": b"mine"})
    publish(run, "org/fdae-micro")
    assert hub.files("org/fdae-micro")["NOTES.md"] == b"mine"


def test_component_of_ones_own_is_uploaded(run, tmp_path):
    """A component that the index names is part of the pipeline, whatever its name."""
    source = tmp_path / "model"
    (source / "prior").mkdir(parents=True)
    (source / "notes").mkdir()
    for name in ("prior/config.json", "notes/config.json"):
        (source / name).write_text("{}")
    index = json.loads((run / "model_index.json").read_text())
    index |= {"prior": ["fdae_diffusers", "Prior"], "absent": [None, None]}
    (source / "model_index.json").write_text(json.dumps(index))
    publish(source, "org/name", tmp_path / "upload")
    assert copied(tmp_path / "upload") == ["model_index.json", "prior/config.json"]


@pytest.mark.parametrize("error", [OSError("no token"), HTTPError("no connection")])
def test_pushing_without_a_login_or_the_hub_is_refused_before_training(tmp_path, monkeypatch, error):
    def create_repo(self, repo_id, **options):
        raise error

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    with pytest.raises(FDAEError, match=rf"hf auth login.*{error}"):
        train(config_for(tmp_path / "run", push_to_hub=True))
    assert not list((tmp_path / "run").iterdir())


def test_pushing_to_what_is_no_name_is_refused_before_training(tmp_path):
    with pytest.raises(FDAEError, match="my model"):
        train(config_for(tmp_path / "run", push_to_hub=True, hub_model_id="my model"))


def test_model_is_complete_when_the_hub_cannot_be_reached_at_the_end(run, monkeypatch):
    def upload_folder(self, **options):
        raise HTTPError("no connection")

    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    with pytest.raises(FDAEError, match=r"fdae-micro, where the model is complete"):
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
