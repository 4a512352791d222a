"""Sprites (Li and Mandt, ICML 2018): pixel-art characters, composed from the sheets of their layers.

Two grids: `sprites-published`, the looks of the published data set, 46,656 images of six factors, and `sprites`, all
looks that the sheets make, 370,440 images of seven. Both have masks of the parts, see `sprites_renderer`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..sprites_renderer import DIRECTIONS, LAYERS, NUM_FRAMES, PUBLISHED_LOOKS, SpritesRenderer
from . import originals
from .base import Benchmark, Row

CITATION = """@inproceedings{li2018disentangled,
  title = {Disentangled Sequential Autoencoder},
  author = {Li, Yingzhen and Mandt, Stephan},
  booktitle = {International Conference on Machine Learning},
  year = {2018}
}"""

TERMS = """The sheets are by the artists of the Liberated Pixel Cup (https://lpc.opengameart.org) and of the
Universal-LPC-spritesheet (https://github.com/jrconway3/Universal-LPC-spritesheet), under CC-BY-SA 3.0 or GPL 3.0.
These images are derived from them, under the same licences: whoever shows one names source and licence beside it."""


def read(benchmark: Benchmark, source: Path) -> originals.Originals:
    """Compose all images from a folder with a folder of sheets 0.png, 1.png, ... for each layer."""
    renderer = SpritesRenderer(source, published="shoes" not in benchmark.factor_names)
    features = originals.image_and_label_features(benchmark, ("image", "part_mask"))
    return features, originals.add_labels(benchmark, _pictures(benchmark, renderer))


def _pictures(benchmark: Benchmark, renderer: SpritesRenderer) -> Iterator[Row]:
    for start in range(0, benchmark.num_images, originals.BLOCK):
        factors = benchmark.rows_to_factors(np.arange(start, min(start + originals.BLOCK, benchmark.num_images)))
        rows = np.ravel_multi_index(tuple(factors.T), renderer.factor_sizes)
        for image, parts in zip(renderer.render(rows), renderer.part_masks(rows), strict=True):
            yield {
                "image": originals.encode_png(Image.fromarray(image)),
                "part_mask": originals.encode_png(Image.fromarray(parts)),
            }


def _sprites(name: str, title: str, looks: dict[str, int]) -> Benchmark:
    sizes = {**looks, "direction": len(DIRECTIONS), "frame": NUM_FRAMES}
    parts = ", ".join(f"{index} {part}" for index, part in enumerate(SpritesRenderer.part_names))
    return Benchmark(
        name,
        tuple(sizes),
        tuple(sizes.values()),
        num_concepts=len(SpritesRenderer.part_names),
        source="https://github.com/YingzhenLi/Sprites (folder of the sheets)",
        title=title,
        citation=CITATION,
        original_files="folder of the sheets of Sprites",
        license=("cc-by-sa-3.0", "gpl-3.0"),
        terms=TERMS,
        note="pictures made from sheets of the Liberated Pixel Cup, CC-BY-SA 3.0 or GPL 3.0",
        value_names={"direction": DIRECTIONS},
        columns={
            "image": ("RGB PNG", "composed from the sheets, on black"),
            "part_mask": ("8-bit PNG", f"the part that each pixel shows: {parts}"),
        },
        appearance_factors=tuple(looks),
        part_column="part_mask",
        part_names=SpritesRenderer.part_names,
        read=read,
    )


SPRITES = (
    _sprites("sprites", "Sprites", LAYERS),
    _sprites(
        "sprites-published",
        "Sprites (published looks)",
        {layer: PUBLISHED_LOOKS for layer in LAYERS if layer != "shoes"},
    ),
)
