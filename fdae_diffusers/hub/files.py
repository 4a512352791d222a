"""Every file that a model's folder may hold: the one table of what makes it, shows it, uploads it and outdates it."""

from dataclasses import dataclass
from fnmatch import fnmatch

from ..basis import BASIS_FILE

INDEX_FILE = "model_index.json"
CARD_FILE = "README.md"
TRAINING_FILE = "training.json"
METRICS_FILE = "metrics.json"
SWAPS_FILE = "swaps.json"
ATTRIBUTES_FILE = "attributes.json"
IMPORTANCE_FILE = "importance.png"


@dataclass(frozen=True)
class ModelFile:
    """One file, or all that match a pattern, of a model's folder.

    Attributes:
        name: Path in the folder, or a pattern of such paths as `fnmatch` reads it.
        made_by: The command or step that writes it.
        outdated_by_training: It tells something of the weights, so that training deletes it when it writes new ones.
        uploaded: It goes to the Hub with the model.
        caption: What a picture shows, in the model card; ``None`` for files that the card does not show.
    """

    name: str
    made_by: str
    outdated_by_training: bool = False
    uploaded: bool = True
    caption: str | None = None


MODEL_FILES: list[ModelFile] = [
    ModelFile(INDEX_FILE, "train"),
    ModelFile("unet/*", "train"),
    ModelFile("encoder/*", "train"),
    ModelFile("scheduler/*", "train"),
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
    ModelFile(METRICS_FILE, "evaluate", outdated_by_training=True),
    ModelFile(
        IMPORTANCE_FILE,
        "evaluate",
        outdated_by_training=True,
        caption="How much each content code c and mask code m serves to predict each factor (DCI)",
    ),
    ModelFile(SWAPS_FILE, "evaluate_swaps", outdated_by_training=True),
    ModelFile(ATTRIBUTES_FILE, "predict_attributes", outdated_by_training=True),
    ModelFile(BASIS_FILE, "fit_basis", outdated_by_training=True),
]


def uploaded_patterns() -> list[str]:
    """Return the names and patterns of all files that go to the Hub."""
    return [file.name for file in MODEL_FILES if file.uploaded]


def captions() -> dict[str, str]:
    """Return the caption of each picture that the model card shows, in the order of the card."""
    return {file.name: file.caption for file in MODEL_FILES if file.caption is not None}


def is_outdated_by_training(name: str) -> bool:
    """Return whether a file of a model's folder, named by its path in it, is no longer true of new weights."""
    return any(file.outdated_by_training and fnmatch(name, file.name) for file in MODEL_FILES)
