"""What is read is never executed, and the Hub's token is never written. Elsewhere: code in a converted checkpoint
(`test_convert_script.py`) and in a model repository (`test_remote_code.py`)."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers.image_files import encode, picture, write_parquet
from helpers.training import config_for

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import TrainingConfig, train
from fdae_diffusers.utils.arguments import parse_config

TOKEN = "hf_aTokenThatNobodyMaySee0123456789"


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with everything that writes files, by a user who is logged in."""
    output_dir = tmp_path_factory.mktemp("run") / "fdae-micro"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("HUGGING_FACE_HUB_TOKEN", TOKEN)
        return train(
            config_for(
                output_dir,
                use_ema=True,
                max_train_steps=2,
                checkpointing_steps=1,
                validation_steps=1,
                report_to="tensorboard",
                push_to_hub=True,
                hub_model_id="org/name",
                hub_dry_run_dir=str(output_dir.with_name("upload")),
            )
        )


def test_token_of_the_hub_is_in_no_file(run):
    files = [path for path in run.parent.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".md", ".safetensors", ".bin", ".pkl", ".png"}
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", ["optimizer.bin", "scheduler.bin", "random_states_0.pkl"])
def test_code_in_a_checkpoint_is_refused_and_not_executed(run, tmp_path, name):
    shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    torch.save({"trap": Trap(tmp_path / "executed")}, tmp_path / "checkpoint-1" / name)
    with pytest.raises(FDAEError, match="cannot read"):
        train(config_for(tmp_path, use_ema=True, max_train_steps=2, resume_from_checkpoint="latest"))
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "checkpoint-1" / name, weights_only=False)  # the trap works
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("streaming", [False, True])
def test_checkpoint_has_no_other_pickles(tmp_path, streaming):
    source = write_parquet(tmp_path / "repo", [[encode(picture(seed)) for seed in range(16)]])
    settings = {"dataset_name": source, "max_train_samples": None, "streaming": streaming, "use_ema": True}
    train(config_for(tmp_path / "run", **settings, max_train_steps=1, checkpointing_steps=1))
    read_with_care = {"optimizer.bin", "scheduler.bin", "random_states_0.pkl"}
    names = {path.name for path in (tmp_path / "run" / "checkpoint-1").iterdir()}
    assert {name for name in names if not name.endswith((".safetensors", ".json"))} == read_with_care


def test_objects_in_a_yaml_file_are_refused_and_not_made(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(f"output_dir: !!python/object/apply:os.mkdir [{tmp_path / 'executed'}]\ndataset_name: x\n")
    with pytest.raises(FDAEError, match=r"not valid YAML.*python/object"):
        parse_config(TrainingConfig, ["--config", str(file)])
    assert not (tmp_path / "executed").exists()


def test_weights_of_a_pipeline_are_safetensors(run):
    assert not [path for path in run.glob("*/*") if path.suffix == ".bin" and "checkpoint" not in path.parent.name]
    FDAEPipeline.from_pretrained(run, use_safetensors=True)
