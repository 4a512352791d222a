"""Draw masks, a swap grid and edits of built-in pictures with a trained model.

python -m fdae_diffusers.cli.demo --model model_cards/fdae-shapes3d-rendered-32
"""

from dataclasses import dataclass, field
from pathlib import Path

from ..basis import BASIS_FILE, CodeBasis
from ..data import ImageDataset, load_image_dataset
from ..hub.loading import load_pipeline
from ..utils.arguments import check_at_least_one, parse_config, run_script
from ..visualization.samples import make_edit_figures, make_figures, pick_images, save_figures


@dataclass
class DemoConfig:
    """Settings of the demo."""

    model: str = field(
        default="model_cards/fdae-shapes3d-rendered-32", metadata={"help": "Pipeline folder or Hub id."}
    )
    output_dir: str = field(default="outputs/demo", metadata={"help": "Folder for the pictures."})
    num_images: int = field(default=5, metadata={"help": "Pictures along each side of the grid."})
    num_inference_steps: int | None = field(default=None, metadata={"help": "Steps of the sampler."})
    seed: int = field(default=0, metadata={"help": "Seed of the choice of pictures."})

    def __post_init__(self):
        check_at_least_one(self, ["num_images"])


def main() -> None:
    """Draw the pictures that the command line asks for."""
    config = parse_config(DemoConfig)
    pipeline = load_pipeline(config.model)
    pipeline.set_progress_bar_config(disable=True)
    size = pipeline.encoder.config.sample_size
    images = pick_images(
        ImageDataset(load_image_dataset("shapes3d-rendered", size=size), size), config.num_images, config.seed
    )
    basis = CodeBasis.from_pretrained(config.model) if (Path(config.model) / BASIS_FILE).exists() else None
    figures = make_figures(pipeline, images, config.num_inference_steps, swap_grid=True)
    figures |= make_edit_figures(pipeline, images[0], images[-1], config.num_inference_steps, basis)
    save_figures(figures, Path(config.output_dir))
    print(f"pictures: {config.output_dir}")


if __name__ == "__main__":
    run_script(main)
