#!/usr/bin/env python
"""Turn a benchmark's original files into a folder of parquet files, laid out like a data set on the Hugging Face Hub.

    python training/convert_dataset.py --benchmark cars3d --source analogy.tar.gz --output_dir data/cars3d

`datasets.load_dataset` and the other scripts' flags for data sets take the folder. It appears when it is complete.
"""

from fdae_diffusers.data.convert import ConversionConfig, convert
from fdae_diffusers.utils.arguments import parse_config, run_script


def main() -> None:
    """Convert with the settings of the command line."""
    convert(parse_config(ConversionConfig))


if __name__ == "__main__":
    run_script(main)
