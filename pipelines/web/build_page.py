#!/usr/bin/env python
"""Put the page together: pipelines/web/dist holds all that a browser needs, for any static host.

    npm ci --prefix pipelines/web
    python pipelines/web/build_page.py                        # with the shipped model
    python pipelines/web/build_page.py --models EXPORTED ...  # with folders that `export_onnx` wrote

`make web` does this and serves the page.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.export.onnx import ExportConfig, export
from fdae_diffusers.export.runtime import read_description
from fdae_diffusers.utils.arguments import run_script

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parents[1] / "model_cards" / "fdae-shapes3d-rendered-32"
EXPORTED = HERE.parents[1] / "outputs" / "onnx"
RUNTIME = (
    "onnxruntime-web/dist/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "gifenc/dist/gifenc.esm.js",
)
NOT_SERVED = shutil.ignore_patterns("*.py")


def main() -> None:
    """Build the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, help="exported models; the shipped one by default")
    parser.add_argument("--output_dir", type=Path, default=HERE / "dist", help="where the page goes, replaced")
    arguments = parser.parse_args()
    print(build(arguments.models or [shipped_model()], arguments.output_dir))


def shipped_model() -> Path:
    """Export the shipped model, unless that was done since it was last written, and return its folder."""
    folder = EXPORTED / SHIPPED.name
    newest = max(file.stat().st_mtime for file in SHIPPED.rglob("*"))
    if not (folder / "model.json").is_file() or (folder / "model.json").stat().st_mtime < newest:
        print(f"exporting {SHIPPED.name}: a minute or two")
        shutil.rmtree(folder, ignore_errors=True)
        export(ExportConfig(model=str(SHIPPED), output_dir=str(folder), precision="fp16"))
    return folder


def build(models: Sequence[Path], output_dir: Path) -> Path:
    """Put page, runtime and models into a folder, which is replaced.

    Raises:
        FDAEError: If the runtime is not installed, two models have the same name, or there is something else there.
        ValueError: If a folder holds no exported model.
    """
    if output_dir.exists() and any(output_dir.iterdir()) and not (output_dir / "models.json").is_file():
        raise FDAEError(f"{output_dir} holds something else than the page: choose another folder")
    if len({model.resolve().name for model in models}) < len(models):
        raise FDAEError("two of the models have the same name: rename a folder")
    described = [
        {"path": f"models/{model.resolve().name}", "title": read_description(model)["title"]} for model in models
    ]
    shutil.rmtree(output_dir, ignore_errors=True)
    shutil.copytree(HERE / "page", output_dir, ignore=shutil.ignore_patterns("vendor"))
    shutil.copy(HERE / "README.md", output_dir)
    copy_runtime(output_dir / "vendor")
    for model, entry in zip(models, described, strict=True):
        shutil.copytree(model, output_dir / entry["path"], ignore=NOT_SERVED)
    (output_dir / "models.json").write_text(json.dumps({"models": described}, indent=1) + "\n")
    return output_dir


def copy_runtime(folder: Path) -> None:
    """Copy what the page needs of the installed npm packages.

    Raises:
        FDAEError: If they are not installed.
    """
    folder.mkdir()
    for name in RUNTIME:
        file = HERE / "node_modules" / name
        if not file.is_file():
            raise FDAEError(f"{name} is not installed: npm ci --prefix {HERE}")
        shutil.copy(file, folder)


if __name__ == "__main__":
    run_script(main)
