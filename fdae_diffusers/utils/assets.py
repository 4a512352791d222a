"""Files that come with the package: training configurations, small models and the web app.

A wheel holds them in ``fdae_diffusers/assets``, see setup.py; a checkout of the repository where it keeps them.
Imports nothing heavy: the command `fdae` looks names up before it imports torch.
"""

from pathlib import Path
from typing import Literal, TypeAlias

Asset: TypeAlias = Literal["configs", "models", "space"]

SHIPPED_MODEL = "fdae-shapes3d-rendered-32"

_PACKAGE = Path(__file__).parents[1]
_IN_REPOSITORY: dict[Asset, str] = {"configs": "training/configs", "models": "model_cards", "space": "pipelines/space"}


def asset_folder(kind: Asset) -> Path:
    """Return the folder of one kind of files."""
    packaged = _PACKAGE / "assets" / kind
    return packaged if packaged.is_dir() else _PACKAGE.parent / _IN_REPOSITORY[kind]


def config_names() -> list[str]:
    """Return the names of the training configurations that come with the package."""
    return sorted(path.stem for path in asset_folder("configs").glob("*.yaml"))


def find_config(name: str) -> Path:
    """Return the YAML file of a name: a file if there is one by that name, else one that comes with the package."""
    path = Path(name)
    if not path.exists() and name in config_names():
        return asset_folder("configs") / f"{name}.yaml"
    return path


def find_model(name: str) -> str:
    """Return the folder of a model that comes with the package; any other name, a folder or a Hub id, as it is."""
    if name and Path(name).name == name and not Path(name).exists():
        folder = asset_folder("models") / name
        if (folder / "model_index.json").is_file():
            return str(folder)
    return name
