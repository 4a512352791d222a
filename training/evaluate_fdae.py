#!/usr/bin/env python
"""Score a model on a disentanglement benchmark: DCI, FactorVAE score, MIG and more.

    python training/evaluate_fdae.py --model outputs/quickstart --dataset shapes3d-rendered

Every image of the benchmark is encoded once. The scores are printed as a table and written to `metrics.json`,
and how much each code tells about each factor is drawn in `importance.png`.
"""

from fdae_diffusers.evaluation.disentanglement import EvaluationConfig, evaluate
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Evaluate with the settings of the command line."""
    evaluate(parse_config(EvaluationConfig))


if __name__ == "__main__":
    run_script(main)
