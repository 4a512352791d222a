#!/usr/bin/env python
"""Measure the page in headless Chromium: time until it is ready, from slider to picture, and what is downloaded.

    python pipelines/web/measure.py [--folder pipelines/web/dist] [--moves 100]

Every model of the page is measured, in a new browser. docs/web.md has the results.
"""

import argparse
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from chromium import DRAWN, served_page
from serve import DIST

from fdae_diffusers.utils.arguments import run_script

# Resolves to the time from each input event until the canvas holds the new picture, in milliseconds.
MOVE_SLIDERS = """async (moves) => {
  const result = document.querySelector("#result");
  const sliders = [...document.querySelectorAll("input.blend:not(#everything)")];
  const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
  const times = [];
  await pause(1000);
  for (let i = -5; i < moves; i++) {
    const slider = sliders[Math.max(0, i) % sliders.length];
    const drawn = new Promise((resolve) => result.addEventListener("drawn", resolve, { once: true }));
    const start = performance.now();
    slider.value = -0.5 + ((i + 5) * 0.37) % 2;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await drawn;
    if (i >= 0) times.push(performance.now() - start);
    await pause(16);
  }
  return times;
}"""
FIRST_PICTURE = """document.querySelector("#result")?.addEventListener("drawn",
  () => { window.firstPicture ??= performance.now(); })"""


def main() -> None:
    """Measure each model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DIST, help="the built page")
    parser.add_argument("--moves", type=int, default=100, help="moves of a slider")
    arguments = parser.parse_args()
    models = json.loads((arguments.folder / "models.json").read_text())["models"]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| model | ready | slider to picture, median | 95th percentile | threads | gzipped download |")
    print("| --- | --- | --- | --- | --- | --- |")
    for model in models:
        print(table_row(arguments.folder, model, measure(arguments.folder, model["path"], arguments.moves)))


def measure(folder: Path, model: str, moves: int) -> dict[str, Any]:
    """Time a model of the page: ``ready`` and ``moves`` in milliseconds, and the page's own word on threads."""
    with served_page(folder, viewport={"width": 1280, "height": 900}) as (page, address):
        page.add_init_script(f"addEventListener('DOMContentLoaded', () => {{ {FIRST_PICTURE} }})")
        page.goto(f"{address}/#model={model}")
        page.wait_for_selector(DRAWN, timeout=120_000)
        return {
            "ready": page.evaluate("window.firstPicture"),
            "environment": page.inner_text("#environment"),
            "moves": page.evaluate(MOVE_SLIDERS, moves),
        }


def download_size(folder: Path, model: str) -> int:
    """Bytes of all that a visitor of a model downloads, gzipped as static hosts send it."""
    files = [file for file in folder.rglob("*") if file.is_file() and "models" not in file.relative_to(folder).parts]
    files += [file for file in (folder / model).rglob("*") if file.is_file()]
    return sum(len(gzip.compress(file.read_bytes(), 6)) for file in files if file.name != "README.md")


def table_row(folder: Path, model: dict[str, str], figures: dict[str, Any]) -> str:
    """The row of the table."""
    description = json.loads((folder / model["path"] / "model.json").read_text())
    size = description["sample_size"]
    median, tail = np.percentile(figures["moves"], [50, 95])
    threads = figures["environment"].split(" on ")[-1].split(".")[0].split(",")[0]
    return (
        f"| {model['title']}, {size}x{size} | {figures['ready'] / 1000:.1f} s | {median:.0f} ms | {tail:.0f} ms | "
        f"{threads} | {download_size(folder, model['path']) / 1e6:.1f} MB |"
    )


if __name__ == "__main__":
    run_script(main)
