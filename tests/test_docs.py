"""README and guides: every Python block runs as written, and so does every short command, in an empty folder."""

import re
import shlex

import pytest
from helpers.paths import ROOT

from fdae_diffusers.cli.main import run
from fdae_diffusers.cli.table import COMMANDS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = ("train", "app", "evaluate")  # commands that take longer than two minutes, or never end


def blocks(page, language):
    """The blocks of a page in a language; those of Python as one program, because each goes on from the last."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page):
    """Commands of `fdae` that need nothing but the package: no files of one's own, no model that is trained first."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("fdae ")]
    tokens = [shlex.split(line, comments=True)[1:] for line in lines]
    return [given for given in tokens if given[0] not in LONG and not set(given) & {"a.png", "--model"}]


# Their blocks are examples of extending the code, with names of the reader's own.
@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page.name != "architecture.md"],
    ids=lambda page: page.stem,
)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FDAE_MODEL", raising=False)
    program = "\n".join(blocks(page, "python"))
    exec(compile(program, page.name, "exec"), {"__name__": "page"})


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_short_commands_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FDAE_MODEL", raising=False)
    for arguments in commands(page):
        steps = [] if {"masks", "encode"} & set(arguments) else ["--num_inference_steps", "2"]
        run([*arguments, *steps])
    assert "Traceback" not in capsys.readouterr().err


def test_links_of_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_readme_is_short_and_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert all(command.name in text for command in COMMANDS)


def test_scripts_and_configurations_of_the_pages_exist():
    for page in PAGES:
        for name in re.findall(r"(?<![\w/])(training/[\w/-]+\.(?:py|yaml))", page.read_text()):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"
