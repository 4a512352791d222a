import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import PurePosixPath

import pytest
from helpers.paths import ROOT

from fdae_diffusers import __version__

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "fdae_diffusers"
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "outputs", "tests", "node_modules"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel, built of a copy: setuptools writes into the folder that it builds from."""
    if find_spec("pip") is None or find_spec("setuptools") is None:
        pytest.skip("needs pip and setuptools to build a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    assert file.name.startswith(f"fdae_diffusers-{__version__}-")
    return file


@pytest.fixture(scope="module")
def wheel(built):
    """The names of the files in a wheel."""
    with zipfile.ZipFile(built) as archive:
        return {PurePosixPath(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(built):
    """What a package index shows of it."""
    with zipfile.ZipFile(built) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def test_wheel_installs_the_package_only(wheel):
    tops = {path.parts[0] for path in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fdae_diffusers"}
    assert len(tops) == 2
    assert "LICENSE" in {path.name for path in wheel}


def test_wheel_holds_every_file_of_the_package(wheel):
    files = {PurePosixPath(path.relative_to(ROOT).as_posix()) for path in PACKAGE.rglob("*") if path.is_file()}
    sources = {path for path in files if "__pycache__" not in path.parts}
    assert sources <= wheel
    assert PurePosixPath("fdae_diffusers/py.typed") in wheel


def test_wheel_holds_configurations_models_and_the_web_app(wheel):
    assets = PurePosixPath("fdae_diffusers/assets")
    for name, folder in {"configs": "training/configs", "models": "model_cards", "space": "pipelines/space"}.items():
        files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert files
        assert {assets / name / file.as_posix() for file in files if "__pycache__" not in file.parts} <= wheel


def test_readme_of_the_wheel_links_to_the_repository(metadata):
    assert re.search(r"\]\(https://github.com/[^)]*/raw/main/docs/images/", metadata)
    assert not re.search(r"\]\((?!https?:|#)", metadata)
