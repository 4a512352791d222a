"""The example pictures of a model: a few that it was trained on, side by side in one file of its folder."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..errors import FDAEError, user_errors
from ..utils.assets import find_model
from ..utils.files import whole_file
from .files import EXAMPLES_FILE
from .loading import find_file


def save_examples(images: Sequence[Image.Image], folder: str | Path) -> None:
    """Write square pictures of one size S into a model's folder, as one picture (S, n * S)."""
    size = images[0].height
    row = Image.new("RGB", (size * len(images), size))
    for number, image in enumerate(images):
        row.paste(image, (number * size, 0))
    with whole_file(Path(folder) / EXAMPLES_FILE) as unfinished:
        row.save(unfinished, format="PNG")


def load_examples(model: str, revision: str | None = None) -> list[Image.Image]:
    """Load the example pictures of a model, as the model sees them.

    Args:
        model: Folder, Hub id, or name of a model that comes with the package.
        revision: Branch, tag or commit of a model on the Hub.

    Returns:
        n PIL images, RGB, of the model's size.

    Raises:
        FDAEError: If the model has none, or they are damaged.
    """
    path = find_file(find_model(model), EXAMPLES_FILE, revision)
    if path is None:
        raise FDAEError(f"{model} has no example pictures ({EXAMPLES_FILE}): name image files")
    with user_errors(f"cannot read {path}", OSError):
        row = Image.open(path).convert("RGB")
    size = row.height
    return [row.crop((left, 0, left + size, size)) for left in range(0, row.width - size + 1, size)]
