#!/usr/bin/env python
"""Compare a model's masks with the true parts of a benchmark: foreground ARI, IoU, consistency, crispness.

    python training/evaluate_masks.py --model outputs/sprites --dataset sprites --dataset_path data/sprites

Prints a table and writes `masks.json`. See `fdae_diffusers.evaluation.segmentation`.
"""

from fdae_diffusers.evaluation.segmentation import MasksConfig, evaluate_masks
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Compare with the settings of the command line."""
    evaluate_masks(parse_config(MasksConfig))


if __name__ == "__main__":
    run_script(main)
