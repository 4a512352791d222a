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
    ".*", "__pycache__", "*.egg-info", "build", "dist", "outputs", "model_cards", "node_modules"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel, built of a copy: setuptools writes into the folder that it builds from."""
    if find_spec("pip") is None or find_spec("setuptools") is None:
        pytest.skip("needs pip and setuptools to build a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "source")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    assert file.name.startswith(f"fdae_diffusers-{__version__}-")
    with zipfile.ZipFile(file) as archive:
        return {PurePosixPath(name) for name in archive.namelist()}


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
