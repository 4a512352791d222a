"""Write a pipeline as three ONNX networks and a description, for onnxruntime in Python and in browsers.

    encoder.onnx    pixel_values (B, 3, H, W) -> content (B, N, d_c), mask (B, N, d_m)
    decoder.onnx    content, mask -> masks (B, N, H, W) and the condition: condition_map (B, d_F, H, W)
    unet.onnx       sample (B, 3, H, W), c_noise (B,) and the condition -> F (B, 3, H, W)
    model.json      sizes, preconditioning, sampler, example pictures, code basis, what the model knows
    fdae_onnx.py    runs all this in Python, see :mod:`~fdae_diffusers.export.runtime`

The networks use operators that the CPU, WebAssembly and WebGPU backends of onnxruntime have: at opset 18 a group
normalisation becomes reshape, InstanceNormalization, multiply and add.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ..basis import CodeBasis, basis_file
from ..errors import FDAEError
from ..hub.loading import ModelConfig, load_pipeline
from ..image_processing import to_pixel_values, to_pixels
from ..pipeline_fdae import FDAEPipeline
from ..utils.files import new_folder
from . import runtime
from .material import describe_model, example_pictures
from .sampler import describe_sampler

try:
    import onnx
    import onnxscript  # noqa: F401 (what torch's exporter works with)

    from .networks import networks, store_in_half_precision
except ImportError as error:
    raise FDAEError(f"{error.name} is missing: pip install 'fdae-diffusers[export]'") from error

Precision = Literal["fp32", "fp16"]

NUM_EXAMPLES = 12  # pictures that are written; all that are given tell how well the model does
# A picture that is rebuilt worse than the worst example by this much is unlike what the model was trained on.
FOREIGN_MARGIN = 6.0  # dB


@dataclass(frozen=True)
class Bounds:
    """How far an export may be from torch.

    Args:
        error: Largest difference of a network's output, as a part of the output's largest value.
        psnr: Of whole samples, in dB.
    """

    error: float
    psnr: float


BOUNDS: dict[Precision, Bounds] = {"fp32": Bounds(error=1e-4, psnr=50.0), "fp16": Bounds(error=2e-2, psnr=35.0)}


@dataclass(kw_only=True)
class ExportConfig(ModelConfig):
    """What ``fdae export onnx`` writes."""

    output_dir: str = field(metadata={"help": "New folder for the exported model."})
    precision: Precision = field(
        default="fp32", metadata={"help": "fp16 stores the weights in half the space; all computes in fp32."}
    )
    num_inference_steps: int | None = field(
        default=None, metadata={"help": "Steps of the sampler; those of the pipeline by default."}
    )
    examples_dir: str | None = field(
        default=None, metadata={"help": "Folder of pictures like those the model was trained on, at least two."}
    )
    dataset: str | None = field(default=None, metadata={"help": "Data set to pick such pictures of, instead."})
    title: str | None = field(default=None, metadata={"help": "Name of the model for people, in a word or two."})
    knows: str | None = field(default=None, metadata={"help": "A sentence about the pictures that the model knows."})


@dataclass(frozen=True)
class ExportReport:
    """What came of an export.

    Args:
        folder: Where the exported model is.
        errors: Network -> largest difference to torch, as a part of the output's largest value.
        psnr: Of whole samples to torch's, in dB.
        num_bytes: Size of the three networks.
    """

    folder: Path
    errors: Mapping[str, float]
    psnr: float
    num_bytes: int

    def __str__(self) -> str:
        errors = ", ".join(f"{part} {error:.1e}" for part, error in self.errors.items())
        return (
            f"{self.folder}: {self.num_bytes / 1e6:.1f} MB\n"
            f"largest error against torch: {errors}\n"
            f"samples against torch: {self.psnr:.1f} dB PSNR"
        )


def export(config: ExportConfig) -> ExportReport:
    """Export a model by its name, with its code basis and example pictures, and print how exact the export is.

    Raises:
        FDAEError: If the model or the pictures cannot be loaded, or as :func:`export_onnx`.
    """
    pipeline = load_for_export(config)
    report = export_onnx(
        pipeline,
        config.output_dir,
        precision=config.precision,
        examples=example_pictures(config.model, pipeline.unet.config.sample_size, config.examples_dir, config.dataset),
        basis=_basis_of(config),
        num_inference_steps=config.num_inference_steps,
        **describe_model(config.model, config.title, config.knows),
    )
    print(report)
    return report


def load_for_export(config: ExportConfig) -> FDAEPipeline:
    """Load the model to the CPU, where it is traced, whatever ``device`` says."""
    pipeline = load_pipeline(config.model, "cpu", config.variant, config.revision)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_onnx(
    pipeline: FDAEPipeline,
    output_dir: str | Path,
    precision: Precision = "fp32",
    examples: Sequence[Image.Image] = (),
    basis: CodeBasis | None = None,
    title: str | None = None,
    knows: str | None = None,
    num_inference_steps: int | None = None,
) -> ExportReport:
    """Write a pipeline to a new folder, and compare what onnxruntime computes with torch.

    Args:
        pipeline: In evaluation mode, in float32, on the CPU.
        output_dir: The folder; it appears only when the export is complete and exact enough.
        precision: ``"fp16"`` stores weights in half precision. Networks compute in single precision either way, on
            every backend, so that this costs some exactness but no speed.
        examples: Pictures like those the model was trained on, of any size. They are the first 12 that an app offers;
            how well all are rebuilt tells apps when a picture is foreign to the model.
        basis: Directions of the codes.
        title: Name of the model for people.
        knows: A sentence about the pictures that the model knows.
        num_inference_steps: Steps of the sampler, the pipeline's by default.

    Raises:
        FDAEError: If the folder exists, the pipeline's sampler cannot be exported, or an error is above its bound.
    """
    if precision not in BOUNDS:
        raise FDAEError(f"precision must be one of {', '.join(BOUNDS)}, not {precision!r}")
    sampler = describe_sampler(pipeline, num_inference_steps)
    size = pipeline.unet.config.sample_size
    pictures = [Image.fromarray(to_pixels(picture, size)) for picture in examples]
    with new_folder(output_dir) as folder, torch.no_grad():
        parts = networks(pipeline)
        for name, part in parts.items():
            model = part.to_onnx()
            if precision == "fp16":
                store_in_half_precision(model)
            onnx.save(model, folder / f"{name}.onnx")
        description = {
            "format": runtime.FORMAT,
            "format_version": runtime.FORMAT_VERSION,
            "title": title or "FDAE",
            "knows": knows,
            "precision": precision,
            "sample_size": size,
            "in_channels": pipeline.unet.config.in_channels,
            "num_concepts": pipeline.encoder.config.num_concepts,
            "content_dim": pipeline.encoder.config.content_dim,
            "mask_dim": pipeline.encoder.config.mask_dim if "mask" in parts["decoder"].inputs else None,
            "sigma_data": pipeline.scheduler.config.sigma_data,
            "sampler": sampler,
            "files": {name: _file_record(folder / f"{name}.onnx") for name in parts},
            "basis": None if basis is None else _basis_record(basis),
            "examples": _save_examples(folder, pictures),
            "reconstruction_psnr": None,
        }
        _write_description(folder, description)
        exported = runtime.OnnxPipeline(folder)
        if pictures:
            description["reconstruction_psnr"] = _reconstruction_psnr(exported, pictures)
            _write_description(folder, description)
        shutil.copyfile(runtime.__file__, folder / "fdae_onnx.py")
        report = ExportReport(
            Path(output_dir),
            {name: part.largest_error(folder / f"{name}.onnx") for name, part in parts.items()},
            _sample_psnr(pipeline, exported, pictures, sampler["num_inference_steps"]),
            sum(record["bytes"] for record in description["files"].values()),
        )
        _check(report, BOUNDS[precision])
    return report


def _basis_of(config: ExportConfig) -> CodeBasis | None:
    if Path(config.model).is_dir() and not (Path(config.model) / basis_file(config.variant)).is_file():
        return None
    try:
        return CodeBasis.from_pretrained(config.model, config.revision, config.variant)
    except FDAEError as error:
        print(f"without directions of the codes: {error}")
        return None


def _basis_record(basis: CodeBasis) -> dict[str, Any]:
    return {
        kind: {name: _rounded(getattr(part, name)) for name in ("mean", "components", "deviations")}
        for kind, part in (("content", basis.content), ("mask", basis.mask))
        if part is not None
    }


def _rounded(values: torch.Tensor) -> Any:
    return np.vectorize(lambda value: float(f"{value:.6g}"))(values.double().numpy()).tolist()


def _file_record(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _save_examples(folder: Path, pictures: Sequence[Image.Image]) -> list[str]:
    (folder / "examples").mkdir()
    names = [f"examples/{i:02d}.png" for i in range(min(len(pictures), NUM_EXAMPLES))]
    for name, picture in zip(names, pictures, strict=False):
        picture.save(folder / name, optimize=True)
    return names


def _write_description(folder: Path, description: Mapping[str, Any]) -> None:
    (folder / runtime.MODEL_FILE).write_text(json.dumps(description, indent=1) + "\n")


def _reconstruction_psnr(exported: runtime.OnnxPipeline, pictures: Sequence[Image.Image]) -> dict[str, float]:
    """How well one call of the U-Net rebuilds the pictures, and below what a picture is foreign, in dB."""
    images = np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])
    rebuilt = exported.preview(exported.encode(images), output_type="np")
    psnr = -10 * np.log10(np.square(rebuilt - images).mean((1, 2, 3)))
    return {
        "typical": round(float(np.median(psnr)), 2),
        "foreign_below": round(float(psnr.min()) - FOREIGN_MARGIN, 2),
    }


def _sample_psnr(
    pipeline: FDAEPipeline, exported: runtime.OnnxPipeline, pictures: Sequence[Image.Image], num_steps: int
) -> float:
    """PSNR of the exported pipeline's samples to torch's, from the same pictures and noise, in dB."""
    size, generator = pipeline.unet.config.sample_size, torch.Generator().manual_seed(0)
    values = torch.rand(2, 3, size, size, generator=generator) * 2 - 1
    if pictures:
        values = to_pixel_values(list(pictures[:2]), size)
    latents = torch.randn(values.shape, generator=generator)
    wanted = pipeline(values / 2 + 0.5, num_inference_steps=num_steps, latents=latents, output_type="np").images
    arrays = values.permute(0, 2, 3, 1).numpy() / 2 + 0.5
    given = exported(arrays, num_inference_steps=num_steps, latents=latents.numpy(), output_type="np")
    return float(-10 * np.log10(max(np.square(given - wanted).mean(), 1e-12)))


def _check(report: ExportReport, bounds: Bounds) -> None:
    for part, error in report.errors.items():
        if not error <= bounds.error:
            raise FDAEError(
                f"the exported {part} is off by {error:.1e} of its largest value, more than {bounds.error}"
            )
    if not report.psnr >= bounds.psnr:
        raise FDAEError(f"samples of the export are {report.psnr:.1f} dB from torch's, less than {bounds.psnr}")
