"""Every file of a model's folder in one table: what writes it, shows it, uploads it and makes it outdated.

A file added to `MODEL_FILES` is uploaded, deleted by the next training if it describes the weights, shown in the model
card if it has a caption, and copied by an export; nothing else has to be told.
"""

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from ..basis import BASIS_FILE

INDEX_FILE = "model_index.json"
CARD_FILE = "README.md"
TRAINING_FILE = "training.json"
METRICS_FILE = "metrics.json"
SWAPS_FILE = "swaps.json"
ATTRIBUTES_FILE = "attributes.json"
IMPORTANCE_FILE = "importance.png"
EXAMPLES_FILE = "examples.png"
HEALTH_FILE = "health.json"
MASKS_FILE = "masks.json"


@dataclass(frozen=True)
class ModelFile:
    """One file of a model's folder.

    Attributes:
        name: Path in the folder.
        made_by: The command or step that writes it.
        outdated_by_training: It describes the weights: a training deletes it when it writes new ones. For another
            variant of the weights it has that variant in its name, see `variant_name`.
        uploaded: It goes to the Hub with the model.
        caption: What a picture shows, in the model card; ``None`` for files that the card does not show.
    """

    name: str
    made_by: str
    outdated_by_training: bool = False
    uploaded: bool = True
    caption: str | None = None

    def matches(self, path: str) -> bool:
        """Return whether a path in the folder is this file, or this file for a variant of the weights."""
        return any(fnmatch(path, pattern) for pattern in self.patterns)

    @property
    def patterns(self) -> list[str]:
        """The name, and the pattern of its variants' names if it has any."""
        return [self.name, variant_name(self.name, "*")] if self.outdated_by_training else [self.name]


MODEL_FILES: list[ModelFile] = [
    ModelFile(INDEX_FILE, "train"),
    ModelFile(TRAINING_FILE, "train"),
    ModelFile(CARD_FILE, "train, evaluate, push_to_hub"),
    ModelFile(
        "masks.png", "train", caption="Images, the mask of each concept, and the strongest concept at each pixel"
    ),
    ModelFile(
        "swap_grid.png",
        "train",
        caption="Swapped codes: content from the image on the left, masks from the image above",
    ),
    ModelFile("reconstructions.png", "train", caption="Images above their reconstructions"),
    ModelFile(EXAMPLES_FILE, "train"),
    ModelFile(HEALTH_FILE, "train, check", outdated_by_training=True),
    ModelFile(METRICS_FILE, "evaluate", outdated_by_training=True),
    ModelFile(
        IMPORTANCE_FILE,
        "evaluate",
        outdated_by_training=True,
        caption="How much each content code c and mask code m serves to predict each factor (DCI)",
    ),
    ModelFile(MASKS_FILE, "evaluate_masks", outdated_by_training=True),
    ModelFile(SWAPS_FILE, "evaluate_swaps", outdated_by_training=True),
    ModelFile(ATTRIBUTES_FILE, "predict_attributes", outdated_by_training=True),
    ModelFile(BASIS_FILE, "fit_basis", outdated_by_training=True),
]


def variant_name(name: str, variant: str | None) -> str:
    """Return the name of a file that describes a variant: ``metrics.ema.json`` for the variant ``"ema"``."""
    if variant is None:
        return name
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}.{variant}{path.suffix}"))


def component_folders(folder: str | Path) -> list[str]:
    """Return the folders of a pipeline's components, which its ``model_index.json`` names; none if it has no index."""
    index_file = Path(folder) / INDEX_FILE
    if not index_file.is_file():
        return []
    index = json.loads(index_file.read_text(encoding="utf-8"))
    return [name for name, value in index.items() if isinstance(value, list) and any(value)]


def uploaded_patterns(folder: str | Path) -> list[str]:
    """Return the patterns of all paths in a model's folder that go to the Hub: the table's, and all components."""
    patterns = [pattern for file in MODEL_FILES if file.uploaded for pattern in file.patterns]
    return patterns + [f"{component}/*" for component in component_folders(folder)]


def is_uploaded(name: str) -> bool:
    """Return whether a file at the top of a model's folder goes to the Hub."""
    return any(file.uploaded and file.matches(name) for file in MODEL_FILES)


def captions() -> dict[str, str]:
    """Return the caption of each picture that the model card shows, in the order of the card."""
    return {file.name: file.caption for file in MODEL_FILES if file.caption is not None}


def is_outdated_by_training(name: str) -> bool:
    """Return whether a file of a model's folder, named by its path in it, describes the weights that it had."""
    return any(file.outdated_by_training and file.matches(name) for file in MODEL_FILES)
