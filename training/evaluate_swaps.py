#!/usr/bin/env python
"""Count how often swapped codes change what they should, and nothing else, on Shapes3D or any labelled grid.

    python training/evaluate_swaps.py --model outputs/quickstart --num_pairs 200 --seed 0
    python training/evaluate_swaps.py --model outputs/sprites --dataset sprites --dataset_path data/sprites

Prints a table and writes `swaps.json`. See `fdae_diffusers.evaluation.swaps` for what is measured.
"""

from fdae_diffusers.evaluation.swaps import SwapsConfig, evaluate_swaps
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Measure with the settings of the command line."""
    evaluate_swaps(parse_config(SwapsConfig))


if __name__ == "__main__":
    run_script(main)
