#!/usr/bin/env python
"""Choose the number of concepts N without labels: train with each N, compare self-MIG (FDAE, eq. 13) and health.

    python training/select_concepts.py --config training/configs/quickstart.yaml --dataset shapes3d-rendered \
        --output_dir outputs/concepts
    python training/select_concepts.py --config training/configs/own-images.yaml \
        --train_data_dir photos --output_dir outputs/photos-concepts

Writes `concepts.md`, `concepts.json` and `concepts.png` after every run. After an interruption the same command
resumes; several with different `--candidates` or `--seeds` can share the work in one folder.
"""

from fdae_diffusers.studies.concepts import SelectionConfig, select_concepts
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Run what is missing of the selection with the settings of the command line; print the table."""
    select_concepts(parse_config(SelectionConfig))


if __name__ == "__main__":
    run_script(main)
