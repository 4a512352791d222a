from pathlib import Path

import pytest

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.utils.files import new_folder, output_file


def write_half(path):
    with new_folder(path) as folder:
        (folder / "half").write_text("")
        raise InterruptedError


def test_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "parent" / "model"
    with pytest.raises(InterruptedError):
        write_half(path)
    assert list(path.parent.iterdir()) == []
    with new_folder(path) as folder:
        (folder / "whole").write_text("")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["whole"]
    assert [file.name for file in path.parent.iterdir()] == ["model"]


def test_empty_folder_may_be_filled_and_what_a_killed_process_left_is_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model.unfinished").mkdir()
    (tmp_path / "model.unfinished" / "old").write_text("")
    with new_folder(tmp_path / "model") as folder:
        (folder / "new").write_text("")
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "new"]


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("")
    for name in ("model", "model/mine"):
        with pytest.raises(FDAEError, match="exists already"):
            new_folder(tmp_path / name).__enter__()
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "mine"]


def test_folder_behind_a_link_is_filled(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with new_folder(tmp_path / "link") as folder:
        (folder / "whole").write_text("")
    assert (tmp_path / "link").is_symlink()
    assert [file.name for file in (tmp_path / "disk").iterdir()] == ["whole"]


def test_output_goes_as_told_else_to_a_local_model_else_here(tmp_path):
    assert output_file("a/b.json", str(tmp_path), "scores.json") == Path("a/b.json")
    assert output_file(None, str(tmp_path), "scores.json") == tmp_path / "scores.json"
    assert output_file(None, "org/name", "scores.json") == Path("scores.json")
    with pytest.raises(FDAEError, match="is a folder: name a file in it"):
        output_file(str(tmp_path), "org/name", "scores.json")
