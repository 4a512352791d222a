#!/usr/bin/env python
"""Ablation of the paper: train and score FDAE without its parts, over several seeds.

    python training/ablation.py --config training/configs/quickstart.yaml --dataset shapes3d-rendered \
        --output_dir outputs/ablation

Writes `ablation.md` and `ablation.json` after every run. After an interruption the same command resumes; several with
different `--rows` or `--seeds` can share the work in one folder.
"""

from fdae_diffusers.studies.ablation import AblationConfig, ablate
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Run what is missing of the ablation with the settings of the command line."""
    print(ablate(parse_config(AblationConfig)))


if __name__ == "__main__":
    run_script(main)
