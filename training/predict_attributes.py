#!/usr/bin/env python
"""Predict the labels of a data set from a model's content codes, with a linear SVM per attribute.

    python training/predict_attributes.py --model outputs/cars3d-tiny --dataset_name data/cars3d

The accuracies are printed beside what guessing reaches and written to `attributes.json`.
"""

from fdae_diffusers.evaluation.attributes import AttributeConfig, predict_attributes
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Predict attributes with the settings of the command line."""
    predict_attributes(parse_config(AttributeConfig))


if __name__ == "__main__":
    run_script(main)
