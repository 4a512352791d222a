"""Cars3D (Reed et al., NeurIPS 2015): 183 cars from 96 directions. The original is one .mat file per car.

The file of a car holds all its views, but the car is the fastest factor: that is why Cars3D is read as a whole, and
held in memory as PNG, about 50 MB.
"""

import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from ...errors import FDAEError
from .base import Benchmark, Originals, Row
from .originals import add_labels, encode_png, image_and_label_features, naming_the_file

CARS3D_SIZE = 64  # height and width that the 128x128 renderings are resized to

CITATION = """@inproceedings{reed2015deep,
  title = {Deep Visual Analogy-Making},
  author = {Reed, Scott E. and Zhang, Yi and Zhang, Yuting and Lee, Honglak},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {28},
  year = {2015}
}"""


def read(benchmark: Benchmark, source: Path) -> Originals:
    """Read "im" (128, 128, 3, 24, 4) uint8 and, where all cars have it, "mask" (128, 128, 24, 4) of every car."""
    num_elevations, num_azimuths, num_cars = benchmark.factor_sizes
    with naming_the_file(source):
        cars = {
            name: _read_views(f"{name}.mat in {source}", content, num_elevations, num_azimuths)
            for name, content in _mat_files(source)
        }
    if len(cars) != num_cars:
        raise FDAEError(f"{source} holds {len(cars):,} files car_*.mat; {benchmark.name} has {num_cars:,} cars")
    names = sorted(cars)
    has_masks = all("mask" in cars[name][0] for name in names)
    columns = ("image", "mask") if has_masks else ("image",)
    pictures = (
        {column: cars[name][view][column] for column in columns}
        for view in range(num_elevations * num_azimuths)
        for name in names
    )
    return image_and_label_features(benchmark, columns, object=names), add_labels(benchmark, pictures)


def _mat_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of the .mat file of each car in a folder or a tar archive, in any order."""
    if source.is_dir():
        for path in source.rglob("car_*.mat"):
            yield path.stem, path.read_bytes()
        return
    with tarfile.open(source, "r|*") as archive:  # one pass: going back would decompress it again
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.match("car_*.mat"):
                content = archive.extractfile(member)
                assert content is not None  # as it is for files
                yield path.stem, content.read()


def _read_views(name: str, content: bytes, num_elevations: int, num_azimuths: int) -> list[Row]:
    """Return the pictures of one car, azimuth fastest: images resized by Lanczos, masks where half a pixel is car."""
    with naming_the_file(name):
        arrays = scipy.io.loadmat(io.BytesIO(content), variable_names=["im", "mask"])
        if "im" not in arrays:
            variables = [variable for variable, *_ in scipy.io.whosmat(io.BytesIO(content))]
            raise FDAEError(f"{name} has no array 'im'; it has {', '.join(variables) or 'nothing'}")
    images, masks = arrays["im"], arrays.get("mask")
    views = (num_azimuths, num_elevations)
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[2:] != (3, *views):
        expected = f"(height, width, 3, {num_azimuths}, {num_elevations})"
        raise FDAEError(f"'im' of {name} must be uint8 {expected}, not {images.dtype} {images.shape}")
    if masks is not None and masks.shape != (*images.shape[:2], *views):
        raise FDAEError(f"'mask' {masks.shape} of {name} does not fit 'im' {images.shape}")
    pictures = []
    for elevation, azimuth in itertools.product(range(num_elevations), range(num_azimuths)):
        image = Image.fromarray(np.ascontiguousarray(images[..., azimuth, elevation]))
        row = {"image": encode_png(image.resize((CARS3D_SIZE, CARS3D_SIZE), Image.Resampling.LANCZOS))}
        if masks is not None:
            mask = Image.fromarray(np.where(masks[..., azimuth, elevation] != 0, np.uint8(255), np.uint8(0)))
            covered = np.asarray(mask.resize((CARS3D_SIZE, CARS3D_SIZE), Image.Resampling.BOX))
            row["mask"] = encode_png(Image.fromarray(covered >= 128))
        pictures.append(row)
    return pictures


CARS3D = Benchmark(
    "cars3d",
    ("elevation", "azimuth", "object"),
    (4, 24, 183),
    num_concepts=2,
    source="http://www.scottreed.info/files/nips2015-analogy-data.tar.gz (.mat files)",
    title="Cars3D",
    citation=CITATION,
    original_files=".tar.gz of Cars3D or folder of its .mat files",
    terms="The objects are named after the original files. The images' authors state no licence.",
    value_names={
        "elevation": tuple(str(degrees) for degrees in range(0, 24, 6)),
        "azimuth": tuple(str(degrees) for degrees in range(0, 360, 15)),
    },
    columns={
        "image": ("RGB PNG", "resized from 128x128 to 64x64 with Lanczos"),
        "mask": ("1-bit PNG", "the renderer's foreground: pixels of which the object covers at least half"),
    },
    appearance_factors=("object",),
    part_column="mask",
    part_names=("background", "car"),
    read=read,
)
