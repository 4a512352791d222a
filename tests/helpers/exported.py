"""A micro pipeline, exported to ONNX once for all tests of a process: tracing it takes a while."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import EDMDPMSolverMultistepScheduler
from PIL import Image

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.basis import CodeBasis
from fdae_diffusers.export.onnx import ExportReport, export_onnx
from helpers.models import micro_pipeline


@dataclass
class Exported:
    """A pipeline and what came of its export."""

    pipeline: FDAEPipeline
    report: ExportReport


_exported: list[Exported] = []


def random_pictures(number: int, size: int = 16) -> list[Image.Image]:
    arrays = np.random.default_rng(0).integers(0, 256, (number, size, size, 3), np.uint8)
    return [Image.fromarray(array) for array in arrays]


def exportable_pipeline(**encoder) -> FDAEPipeline:
    """A micro pipeline with the shipped model's sampler."""
    pipeline = micro_pipeline(**encoder)
    for parameter in pipeline.unet.parameters():  # smaller, so that sampling does not blow rounding up
        torch.nn.init.normal_(parameter, std=0.05)
    pipeline.scheduler = EDMDPMSolverMultistepScheduler(sigma_min=0.02, sigma_schedule="exponential")
    return pipeline


def exported_micro(tmp_path_factory) -> Exported:
    """A micro pipeline, exported with 14 pictures and a basis."""
    if not _exported:
        pipeline = exportable_pipeline()
        pictures = random_pictures(14)
        basis = CodeBasis.fit(pipeline.encode(pictures), num_components=2, num_clusters=2)
        folder = tmp_path_factory.mktemp("export") / "micro"
        report = export_onnx(pipeline, folder, examples=pictures, basis=basis, title="Micro", knows="noise")
        _exported.append(Exported(pipeline, report))
    return _exported[0]
