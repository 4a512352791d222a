#!/usr/bin/env python
"""Train a Factorized Diffusion Autoencoder.

    accelerate launch training/train_fdae.py --config training/configs/quickstart.yaml --output_dir outputs/mine

Every flag is a field of `fdae_diffusers.training.TrainingConfig`; flags override the YAML file.
"""

from accelerate import PartialState

from fdae_diffusers.training import TrainingConfig, train
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Train with the settings of the command line."""
    output_dir = train(parse_config(TrainingConfig))
    if PartialState().is_main_process:
        print(f"pipeline and figures: {output_dir}")


if __name__ == "__main__":
    run_script(main)
