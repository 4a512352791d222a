"""Builds the wheel with what the repository keeps outside the package: YAML files, models and the web app.

All else about the package stands in setup.cfg.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Folder in the package <- folder in the repository; `fdae_diffusers.utils.assets` finds them in either place.
ASSETS = {"configs": "training/configs", "models": "model_cards", "space": "pipelines/space"}
REPOSITORY = "https://github.com/ORG/fdae-diffusers"
NOT_ASSETS = shutil.ignore_patterns(".*", "__pycache__")


class BuildWithAssets(build_py):
    """Copies the assets beside the modules; an editable install reads them where they are."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "fdae_diffusers" / "assets"
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            for name, source in ASSETS.items():
                shutil.copytree(source, target / name, ignore=NOT_ASSETS)


def absolute_readme() -> str:
    """Return README.md with links that also work on a package index."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] == "!" else "blob"
        return f"{link[1]}[{link[2]}]({REPOSITORY}/{kind}/main/{link[3]})"

    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)", absolute, text)


setup(
    cmdclass={"build_py": BuildWithAssets},
    long_description=absolute_readme(),
    long_description_content_type="text/markdown",
)
