"""Settings: sections, data named by a flag, and what the published record tells of them."""

import json
from dataclasses import fields

import pytest
from helpers.paths import TRAINING
from helpers.training import config_for

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import TrainingConfig, train
from fdae_diffusers.training.config import (
    FREE_ON_RESUME,
    DataConfig,
    HubConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizationConfig,
    OutputConfig,
)
from fdae_diffusers.utils.arguments import parse_config

SECTIONS = (NetworkConfig, DataConfig, ObjectiveConfig, OptimizationConfig, OutputConfig, HubConfig)
CONFIGS = TRAINING / "configs"


def test_sections_make_up_the_configuration_in_the_order_of_the_help():
    names = [item.name for section in SECTIONS for item in fields(section)]
    assert [item.name for item in fields(TrainingConfig)] == names
    assert set(names) > FREE_ON_RESUME


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_files_parse(path):
    parse_config(TrainingConfig, ["--config", str(path), "--dataset_name", "somewhere"])


@pytest.mark.parametrize(
    "flags", [["--train_data_dir", "photos"], ["--train_data_dir=photos"], ["--train-data-dir", "photos"]]
)
def test_data_named_by_a_flag_replaces_that_of_the_file(flags):
    config = parse_config(TrainingConfig, ["--config", str(CONFIGS / "quickstart.yaml"), *flags])
    assert (config.dataset_name, config.train_data_dir) == (None, "photos")
    assert config.num_concepts == 4


def test_two_flags_or_two_keys_for_the_data_are_refused(tmp_path):
    both = ["--dataset_name", "x", "--train_data_dir", "photos"]
    with pytest.raises(FDAEError, match="either dataset_name or train_data_dir"):
        parse_config(TrainingConfig, ["--config", str(CONFIGS / "quickstart.yaml"), *both])
    (tmp_path / "both.yaml").write_text("dataset_name: x\ntrain_data_dir: photos\n")
    with pytest.raises(FDAEError, match="either dataset_name or train_data_dir"):
        parse_config(TrainingConfig, ["--config", str(tmp_path / "both.yaml")])


def test_loss_weights_of_a_file_are_merged_over_the_defaults():
    config = parse_config(TrainingConfig, ["--config", str(CONFIGS / "cars3d-tiny.yaml"), "--dataset_name", "x"])
    assert config.loss_weights == {"reconstruction": 1.0, "content_decorrelation": 2.5e-5, "mask_entropy": 1e-3}


@pytest.mark.parametrize("settings", [{"scheduler": "ddim"}, {"num_inference_steps": 0}, {"p_std": 0.0}])
def test_values_out_of_range_are_refused(tmp_path, settings):
    with pytest.raises(FDAEError, match=next(iter(settings))):
        config_for(tmp_path, **settings)


def test_other_loss_weights_are_not_resumed_with(tmp_path):
    train(config_for(tmp_path, checkpointing_steps=6))
    with pytest.raises(FDAEError, match="loss_weights"):
        train(config_for(tmp_path, loss_weights={"mask_entropy": 1.0}, resume_from_checkpoint="latest"))
    train(config_for(tmp_path, loss_weights={"mask_entropy": 1e-4}, resume_from_checkpoint="latest"))  # the default


def test_published_files_hold_no_paths(tmp_path, image_folder):
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "cache_dir": str(tmp_path / "cache")}
    folder = tmp_path / "run"
    train(config_for(folder, **settings, hub_dry_run_dir=str(tmp_path / "dry"), push_to_hub=True, max_train_steps=1))
    record = json.loads((folder / "training.json").read_text())
    assert record["config"]["train_data_dir"] == "images"
    assert record["config"]["output_dir"] == "run"
    published = [path for path in (tmp_path / "dry").rglob("*") if path.suffix in (".json", ".md")]
    assert {path.name for path in published} >= {"training.json", "README.md", "model_index.json"}
    assert not [path for path in published if str(tmp_path) in path.read_text()]
