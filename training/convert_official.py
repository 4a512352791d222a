#!/usr/bin/env python
"""Turn a checkpoint of the released FDAE code (github.com/wuancong/FDAE) into a pipeline.

    python training/convert_official.py --checkpoint logs/shapes3d/model100000.pt --output_dir outputs/shapes3d

The folder appears when it is complete; `FDAEPipeline.from_pretrained` and the other scripts take it. Nothing in the
checkpoint is executed: only tensors are read.
"""

from fdae_diffusers.conversion import CheckpointConfig, convert_checkpoint
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Convert with the settings of the command line."""
    convert_checkpoint(parse_config(CheckpointConfig))


if __name__ == "__main__":
    run_script(main)
