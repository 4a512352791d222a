#!/usr/bin/env python
"""Record the page as it is used: docs/images/web.gif, from the real page in headless Chromium.

python pipelines/web/record.py [--folder pipelines/web/dist] [--output docs/images/web.gif]
"""

import argparse
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chromium import DRAWN, served_page
from PIL import Image
from serve import DIST

from fdae_diffusers.utils.arguments import run_script
from fdae_diffusers.utils.files import whole_file

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "images" / "web.gif"
SIZE = {"width": 1080, "height": 800}
WIDTH = 720
COLORS = 200
MOVE, REST = 90, 900  # milliseconds a frame is shown
FRAMES = 9  # of one move of a slider


def main() -> None:
    """Record and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DIST, help="the built page")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the GIF")
    arguments = parser.parse_args()
    with served_page(arguments.folder, viewport=SIZE) as (page, address):
        page.goto(address)
        page.wait_for_selector(DRAWN, timeout=120_000)
        frames = list(use(page))
    save(frames, arguments.output)
    print(f"{arguments.output}: {len(frames)} pictures, {arguments.output.stat().st_size / 1e6:.2f} MB")


def use(page: Any) -> Iterator[tuple[bytes, int]]:
    """Use the page, yielding screenshots and how long each is shown."""
    yield page.screenshot(), REST
    # What one concept covers; where and what of it, then what of another.
    page.hover(".concept >> nth=3 >> .pair")
    page.wait_for_timeout(100)
    yield page.screenshot(), REST
    for selector in (
        ".concept >> nth=3 >> input.blend >> nth=1",
        ".concept >> nth=3 >> input.blend >> nth=0",
        ".concept >> nth=0 >> input.blend >> nth=0",
    ):
        slider = page.locator(selector)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        at = [box["x"] + 9 + (box["width"] - 18) * part for part in (0.25, 0.75)]
        y = box["y"] + box["height"] / 2
        page.mouse.move(at[0], y)
        page.mouse.down()
        for i in range(1, FRAMES + 1):
            eased = (1 - math.cos(math.pi * i / FRAMES)) / 2
            page.mouse.move(at[0] + eased * (at[1] - at[0]), y)
            page.wait_for_timeout(60)  # the picture follows within that
            yield page.screenshot(), MOVE
        page.eval_on_selector("#result", "it => { delete it.dataset.quality }")
        page.mouse.up()
        page.wait_for_selector(DRAWN)
        yield page.screenshot(), REST
    page.mouse.move(5, 5)
    for _ in range(2):
        page.eval_on_selector("#result", "it => { delete it.dataset.quality }")
        page.click("#surprise")
        page.wait_for_selector(DRAWN)
        page.wait_for_timeout(100)
        yield page.screenshot(), REST


def save(frames: list[tuple[bytes, int]], path: Path) -> None:
    """Write a GIF; each picture has its own palette, since the colours change with every slider."""
    pictures = []
    for screenshot, _ in frames:
        picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
        picture = picture.resize((WIDTH, picture.height * WIDTH // picture.width), Image.Resampling.LANCZOS)
        pictures.append(picture.quantize(COLORS, dither=Image.Dither.NONE))
    with whole_file(path) as unfinished:
        pictures[0].save(
            unfinished,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=[duration for _, duration in frames],
            loop=0,
        )


if __name__ == "__main__":
    run_script(main)
