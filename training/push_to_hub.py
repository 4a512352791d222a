#!/usr/bin/env python
"""Upload a trained and scored model to the Hub: pipeline, card, scores and pictures.

python training/push_to_hub.py --model outputs/quickstart --repo_id ORG/NAME
"""

from fdae_diffusers.hub.publish import UploadConfig, push
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Upload with the settings of the command line."""
    push(parse_config(UploadConfig))


if __name__ == "__main__":
    run_script(main)
