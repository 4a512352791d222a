from dataclasses import dataclass, field
from typing import Literal

import pytest

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import TrainingConfig
from fdae_diffusers.utils.arguments import parse_config, run_script, spell_flags


@dataclass
class Settings:
    name: str = "a"
    count: int = 1
    rate: float = 0.5
    loud: bool = False
    kind: Literal["x", "y"] = "x"
    names: list[str] = field(default_factory=list)


def write(path, text):
    path.write_text(text)
    return str(path)


def test_file_sets_values_and_flags_override_them(tmp_path):
    file = write(tmp_path / "c.yaml", "name: file\ncount: 3\nrate: 1e-3\nloud: true\nnames: [p, q]\nkind: y\n")
    assert parse_config(Settings, ["--config", file]) == Settings("file", 3, 1e-3, True, "y", ["p", "q"])
    negative = write(tmp_path / "n.yaml", "rate: -1e-5\nname: no\n")  # YAML reads "no" as False
    assert parse_config(Settings, ["--config", negative]) == Settings("no", rate=-1e-5)
    assert parse_config(Settings, ["--count", "4", "--config", file, "--loud", "false"]) == Settings(
        "file", 4, 1e-3, False, "y", ["p", "q"]
    )


def test_no_arguments_give_the_defaults():
    assert parse_config(Settings, []) == Settings()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--cuont", "3"], "unknown flag --cuont"),
        (["--count", "three"], "--count.*three"),
        (["--kind", "z"], "--kind.*z"),
        (["--config", "absent.yaml"], "there is no file absent.yaml"),
    ],
)
def test_wrong_flags_are_one_line(argv, message):
    with pytest.raises(FDAEError, match=message) as error:
        parse_config(Settings, argv)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont: 3", "unknown key 'cuont'"),
        ("help: 1", "unknown key 'help'"),
        ("count: three", "--count.*three"),
        ("- a\n- b", "must map"),
        ("name: [", "not valid YAML"),
        ("name: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_wrong_files_are_one_line(tmp_path, text, message):
    with pytest.raises(FDAEError, match=message) as error:
        parse_config(Settings, ["--config", write(tmp_path / "c.yaml", text)])
    assert "\n" not in str(error.value)


def test_scripts_end_with_one_line_for_a_users_mistake_only(capsys):
    def mistake():
        raise FDAEError("no such thing")

    with pytest.raises(SystemExit) as stop:
        run_script(mistake)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no such thing\n"
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 / 0)


def test_networks_are_mappings_in_yaml_and_json_as_flags(tmp_path):
    file = write(tmp_path / "c.yaml", "dataset_name: d\nencoder:\n  backbone: resnet50\n")
    config = parse_config(TrainingConfig, ["--config", file, "--unet", '{"dropout": 0.0}', "--num_concepts", "2"])
    assert config.encoder == {"backbone": "resnet50", "num_concepts": 2}
    assert config.unet == {"dropout": 0.0}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "either dataset_name or train_data_dir"),
        (["--dataset_name", "d", "--train_data_dir", "e"], "either dataset_name or train_data_dir"),
        (["--dataset_name", "d", "--max_train_steps", "0"], "max_train_steps must be at least 1"),
        (["--dataset_name", "d", "--unet", "{dropout"], "--unet.*{dropout"),
    ],
)
def test_training_settings_that_make_no_sense_are_refused(argv, message):
    with pytest.raises(FDAEError, match=message):
        parse_config(TrainingConfig, argv)


def test_flags_may_be_spelled_with_hyphens_and_lists_may_begin_with_a_minus():
    given = ["--keep-noise", "--out-dir=a-b", "--values", "-1,2", "x-y", "--rate", "-1", "--", "--as-it-is", "-1,2"]
    assert spell_flags(given) == [
        *("--keep_noise", "--out_dir=a-b", "--values=-1,2", "x-y", "--rate", "-1"),
        *("--", "--as-it-is", "-1,2"),
    ]
    assert parse_config(TrainingConfig, ["--dataset-name", "d", "--train-batch-size=3"]).train_batch_size == 3
