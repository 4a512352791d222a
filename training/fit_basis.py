#!/usr/bin/env python
"""Find the directions and typical values of each code of a model, and save them with it, for edits.

    python training/fit_basis.py --model outputs/quickstart --dataset shapes3d-rendered

The result, `code_basis.safetensors`, is what `fdae_diffusers.basis.CodeBasis.from_pretrained` loads.
"""

from dataclasses import dataclass, field
from pathlib import Path

from fdae_diffusers.basis import CodeBasis
from fdae_diffusers.data import BENCHMARKS, RENDERED_SHAPES3D, ImageDataset, load_benchmark, load_image_dataset
from fdae_diffusers.evaluation.encode import encode_dataset, unpack_codes
from fdae_diffusers.hub.loading import load_pipeline
from fdae_diffusers.utils.arguments import parse_config, run_script


@dataclass
class BasisConfig:
    """Settings of a fit."""

    model: str = field(metadata={"help": "Pipeline folder or Hub id."})
    dataset: str = field(metadata={"help": "shapes3d-rendered, cars3d, ..., or a data set on the Hub or in a folder."})
    dataset_path: str | None = field(
        default=None, metadata={"help": "Local folder or Hub id of a benchmark, instead of its own place on the Hub."}
    )
    max_samples: int = field(default=20_000, metadata={"help": "Images to encode, drawn at random, the same ones."})
    num_components: int = field(default=3, metadata={"help": "Principal components per code."})
    num_clusters: int = field(default=20, metadata={"help": "Clusters per code."})
    seed: int = field(default=0, metadata={"help": "Seed of the clusters."})
    batch_size: int = field(default=256, metadata={"help": "Images encoded at a time."})
    num_workers: int = field(default=0, metadata={"help": "Processes that read images."})
    device: str | None = field(default=None, metadata={"help": "cuda, cpu, ...; an accelerator if there is one."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder; a local model's own, else the current one."}
    )


def main() -> None:
    """Fit with the settings of the command line."""
    print(f"written to {fit(parse_config(BasisConfig))}")


def fit(config: BasisConfig) -> Path:
    """Encode the data set, fit a basis, write it and return its path.

    Raises:
        FDAEError: If the model or the data set cannot be loaded, or there are too few images.
    """
    encoder = load_pipeline(config.model, config.device).encoder
    images = load_images(config, encoder.config.sample_size)
    codes = unpack_codes(
        encode_dataset(encoder, images, config.batch_size, config.num_workers), encoder.config.num_concepts
    )
    basis = CodeBasis.fit(codes, config.num_components, config.num_clusters, config.seed)
    return basis.save_pretrained(config.output_dir or (config.model if Path(config.model).is_dir() else "."))


def load_images(config: BasisConfig, size: int) -> ImageDataset:
    """The images of a benchmark, or of any other data set."""
    if config.dataset == RENDERED_SHAPES3D or config.dataset in BENCHMARKS:
        return load_benchmark(config.dataset, config.dataset_path, size, config.max_samples)[0]
    return ImageDataset(load_image_dataset(config.dataset, size=size, max_samples=config.max_samples), size)


if __name__ == "__main__":
    run_script(main)
