"""Every YAML file of training/configs is one that training takes."""

import pytest
import yaml
from helpers.paths import TRAINING

from fdae_diffusers.models.presets import build_models
from fdae_diffusers.training import TrainingConfig
from fdae_diffusers.utils.arguments import parse_config

FILES = sorted((TRAINING / "configs").glob("*.yaml"))


def read(file, *flags):
    """The settings of a file; those that leave the data to the user get a name for them."""
    named = {"dataset_name", "train_data_dir"} & yaml.safe_load(file.read_text()).keys()
    data = () if named else ("--dataset_name", "data/mine")
    return parse_config(TrainingConfig, ["--config", str(file), *data, *flags])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_yaml_file_gives_the_settings_it_says(file):
    config = read(file)
    for name, value in yaml.safe_load(file.read_text()).items():
        actual = getattr(config, name)
        assert (value.items() <= actual.items()) if isinstance(value, dict) else actual == value, name


@pytest.mark.parametrize("file", [file for file in FILES if "tiny" in file.stem or "quick" in file.stem])
def test_networks_of_a_yaml_file_for_a_cpu_can_be_built(file):
    config = read(file)
    _, encoder = build_models(config.preset, config.unet, config.encoder)
    assert config.num_concepts in (None, encoder.config.num_concepts)


def test_flags_replace_what_the_yaml_says():
    assert read(FILES[0], "--max_train_steps", "7").max_train_steps == 7
