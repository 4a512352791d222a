"""What an app shows of a model beside its networks: a name, what the model knows, and example pictures."""

import json
from pathlib import Path

from PIL import Image

from ..data import RENDERED_SHAPES3D, ImageDataset, load_image_dataset
from ..errors import FDAEError
from ..hub.files import TRAINING_FILE
from ..image_processing import read_image
from ..visualization.samples import pick_images

NUM_PICTURES = 64  # of a data set; the more, the surer is how well a model rebuilds pictures of its kind
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def describe_model(model: str, title: str | None = None, knows: str | None = None) -> dict[str, str]:
    """Return the ``title`` of a model and what it ``knows`` in a sentence, where not given from its training record.

    Args:
        model: Folder or Hub id.
        title: For people, in a word or two.
        knows: A sentence about the pictures that the model knows.
    """
    dataset = training_dataset(model)
    name = Path(model).name
    if dataset == RENDERED_SHAPES3D:
        default = ("Toy rooms", "rendered rooms with one coloured object between floor and wall")
    elif dataset is not None:
        default = (name, f"pictures like those of the data set {dataset}")
    else:
        default = (name, "pictures like those that it was trained on")
    return {"title": title or default[0], "knows": knows or default[1]}


def example_pictures(
    model: str, size: int, examples_dir: str | None = None, dataset: str | None = None
) -> list[Image.Image]:
    """Return pictures like those that a model was trained on.

    Args:
        model: Folder or Hub id; of one that was trained on rendered Shapes3D, that data set is taken if none is named.
        size: Height and width.
        examples_dir: Folder of pictures, in the order of their names.
        dataset: Data set to pick pictures of, instead.

    Raises:
        FDAEError: If both are given, the folder has fewer than two pictures, or there is no such data set.
    """
    if examples_dir is not None and dataset is not None:
        raise FDAEError("give examples_dir or dataset, not both")
    if examples_dir is not None:
        files = sorted(path for path in Path(examples_dir).glob("*") if path.suffix.lower() in SUFFIXES)
        if len(files) < 2:
            raise FDAEError(f"{examples_dir} has {len(files)} pictures ({', '.join(SUFFIXES)}): give two at least")
        return [read_image(file, size) for file in files]
    if dataset is None and training_dataset(model) == RENDERED_SHAPES3D:
        dataset = RENDERED_SHAPES3D
    if dataset is None:
        return []
    return pick_images(ImageDataset(load_image_dataset(dataset, size=size), size), NUM_PICTURES)


def training_dataset(model: str) -> str | None:
    """Return the name of the data set in a local model's training record; None for none, or a folder's path."""
    try:
        name = json.loads((Path(model) / TRAINING_FILE).read_text())["config"]["dataset_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if name is None or Path(name).is_absolute() or Path(name).exists() else name
