#!/usr/bin/env python
"""Find the directions and typical values of each code of a model, and save them with it, for edits.

    python training/fit_basis.py --model outputs/quickstart --dataset shapes3d-rendered

The result, `code_basis.safetensors`, is what `fdae_diffusers.basis.CodeBasis.from_pretrained` loads.
"""

from fdae_diffusers.evaluation.basis import BasisConfig, fit_basis
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Fit with the settings of the command line."""
    fit_basis(parse_config(BasisConfig))


if __name__ == "__main__":
    run_script(main)
