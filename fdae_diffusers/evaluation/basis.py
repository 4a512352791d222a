"""Find the directions and typical values of each code of a model, and save them with it, for edits."""

from dataclasses import dataclass, field
from pathlib import Path

from ..basis import CodeBasis
from ..data import BENCHMARKS, ImageDataset, load_benchmark, load_image_dataset
from ..hub.loading import ModelConfig
from ..utils.arguments import check_at_least_one
from .encode import encode_dataset


@dataclass
class BasisConfig(ModelConfig):
    """Settings of a fit."""

    dataset: str = field(
        metadata={"help": lambda: f"One of {', '.join(BENCHMARKS)}, or a data set on the Hub or in a folder."}
    )
    dataset_path: str | None = field(
        default=None, metadata={"help": "Local folder or Hub id of a benchmark, instead of its own place on the Hub."}
    )
    max_samples: int = field(default=20_000, metadata={"help": "Images to encode, drawn at random, the same ones."})
    num_components: int = field(default=3, metadata={"help": "Principal components per code."})
    num_clusters: int = field(default=20, metadata={"help": "Clusters per code."})
    seed: int = field(default=0, metadata={"help": "Seed of the clusters."})
    batch_size: int = field(default=256, metadata={"help": "Images encoded at a time."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that read images; 0 reads in the main process."}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder; a local model's own, else the current one."}
    )

    def __post_init__(self):
        check_at_least_one(self, ("max_samples", "num_components", "num_clusters", "batch_size"))


def fit_basis(config: BasisConfig) -> Path:
    """Encode the data set, fit a basis, save it with the model's folder and return its path.

    Raises:
        FDAEError: If the model or the data set cannot be loaded, or there are too few images.
    """
    encoder = config.load_pipeline().encoder
    images = load_images(config, encoder.config.sample_size)
    codes = encode_dataset(encoder, images, config.batch_size, config.dataloader_num_workers)
    basis = CodeBasis.fit(codes, config.num_components, config.num_clusters, config.seed)
    folder = config.output_dir or (config.model if Path(config.model).is_dir() else ".")
    path = basis.save_pretrained(folder, variant=config.variant)
    print(f"written to {path}")
    return path


def load_images(config: BasisConfig, size: int) -> ImageDataset:
    """Load the images of a benchmark, or of any other data set."""
    if config.dataset in BENCHMARKS:
        return load_benchmark(config.dataset, config.dataset_path, size, config.max_samples)[0]
    return ImageDataset(load_image_dataset(config.dataset, size=size, max_samples=config.max_samples), size)
