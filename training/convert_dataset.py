#!/usr/bin/env python
"""Turn a benchmark's original files into a folder of parquet files, laid out like a data set on the Hugging Face Hub.

    python training/convert_dataset.py --benchmark cars3d --source nips2015-analogy-data.tar.gz --output data/cars3d

`datasets.load_dataset` and the other scripts' flags for data sets take the folder. It appears when it is complete.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from datasets.arrow_writer import ParquetWriter
from huggingface_hub import DatasetCard, DatasetCardData
from tqdm import tqdm

from fdae_diffusers.data import Benchmark, get_benchmark
from fdae_diffusers.data.convert import read_originals
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.utils.arguments import parse_config, run_script
from fdae_diffusers.utils.files import new_folder

ROWS_PER_SHARD = 20_000  # up to 200 MB at 64x64
ROWS_PER_GROUP = 1000  # what is read to get at one row, and held in memory to write it


@dataclass
class ConversionConfig:
    """Settings of a conversion."""

    benchmark: str = field(metadata={"help": "shapes3d, cars3d, mpi3d-toy, mpi3d-realistic, mpi3d-real, ..."})
    source: str = field(
        metadata={"help": "3dshapes.h5; .npz of MPI3D; .tar.gz of Cars3D or folder of its .mat files."}
    )
    output: str = field(metadata={"help": "Folder to write; there must be nothing in it yet."})
    rows_per_shard: int = field(default=ROWS_PER_SHARD, metadata={"help": "Images in one parquet file."})


@dataclass(frozen=True)
class Publication:
    """What the card says of a family of benchmarks."""

    title: str
    citation: str
    images: str
    license: str | None = None
    terms: str = ""


PUBLICATIONS = {
    "shapes3d": Publication(
        "Shapes3D",
        """@misc{3dshapes18,
  title = {3D Shapes Dataset},
  author = {Burgess, Chris and Kim, Hyunjik},
  howpublished = {https://github.com/google-deepmind/3d-shapes/},
  year = {2018}
}""",
        "the original pixels",
        license="apache-2.0",
    ),
    "cars3d": Publication(
        "Cars3D",
        """@inproceedings{reed2015deep,
  title = {Deep Visual Analogy-Making},
  author = {Reed, Scott E. and Zhang, Yi and Zhang, Yuting and Lee, Honglak},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {28},
  year = {2015}
}""",
        "resized from 128x128 to 64x64 with Lanczos",
        terms="\nThe objects are named after the original files. The images' authors state no licence.",
    ),
    "mpi3d": Publication(
        "MPI3D",
        """@inproceedings{gondal2019transfer,
  title = {On the Transfer of Inductive Bias from Simulation to the Real World: a New Disentanglement Dataset},
  author = {Gondal, Muhammad Waleed and Wuthrich, Manuel and Miladinovic, Djordje and Locatello, Francesco and
            Breidt, Martin and Volchkov, Valentin and Akpo, Joel and Bachem, Olivier and Scholkopf, Bernhard and
            Bauer, Stefan},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32},
  year = {2019}
}""",
        "the original pixels",
        license="cc-by-4.0",
    ),
}


def main() -> None:
    """Convert with the settings of the command line."""
    config = parse_config(ConversionConfig)
    convert(get_benchmark(config.benchmark), config.source, config.output, config.rows_per_shard)
    print(f"written to {config.output}")


def convert(
    benchmark: Benchmark, source: str | Path, output: str | Path, rows_per_shard: int = ROWS_PER_SHARD
) -> None:
    """Write the images and labels of original files, and a card, to a new folder, whole or not at all.

    Raises:
        FDAEError: If there is something in the folder, or the files are missing, damaged or not the benchmark's.
    """
    if rows_per_shard < 1:
        raise FDAEError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
    with new_folder(output) as folder:
        features, rows = read_originals(benchmark, source)
        progress = tqdm(rows, total=benchmark.num_images, unit=" images")
        write_shards(folder / "data", features, progress, benchmark.num_images, rows_per_shard)
        make_card(benchmark, features, Path(source).name).save(folder / "README.md")


def write_shards(
    folder: Path, features: datasets.Features, rows: Iterable[dict[str, Any]], num_rows: int, rows_per_shard: int
) -> None:
    """Write rows, of which there are as many as said, to train-XXXXX-of-YYYYY.parquet."""
    folder.mkdir(parents=True)
    rows = iter(rows)
    num_shards = math.ceil(num_rows / rows_per_shard)
    for shard in range(num_shards):
        path = folder / f"train-{shard:05d}-of-{num_shards:05d}.parquet"
        with ParquetWriter(features=features, path=str(path), writer_batch_size=ROWS_PER_GROUP) as writer:
            for row in itertools.islice(rows, rows_per_shard):
                writer.write(features.encode_example(row))
            writer.finalize()
    if next(rows, None) is not None:  # asking also lets the reader check how its file ends
        raise RuntimeError(f"there are more than {num_rows:,} rows")


def make_card(benchmark: Benchmark, features: datasets.Features, source_name: str) -> DatasetCard:
    """Return the README.md: the metadata that the Hub and `datasets` read, and what a reader should know."""
    publication = PUBLICATIONS[benchmark.name.split("-")[0]]
    variant = benchmark.name.partition("-")[2]
    title = f"{publication.title} ({variant})" if variant else publication.title
    metadata = DatasetCardData(
        license=publication.license,
        pretty_name=title,
        task_categories=["unconditional-image-generation"],
        tags=["disentanglement"],
        size_categories=[size_category(benchmark.num_images)],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    )
    columns = "\n".join(describe_column(name, feature, publication) for name, feature in features.items())
    first, last = benchmark.label_columns[0], benchmark.label_columns[-1]
    return DatasetCard(f"""---
{metadata}
---

# {title}

The {benchmark.num_images:,} images of a disentanglement benchmark, one for each combination of the values of its
{len(benchmark.factor_names)} factors, in row-major order: `{first}` is slowest, `{last}` is fastest.

| column | type | content |
| --- | --- | --- |
{columns}

Made from `{source_name}` by `training/convert_dataset.py` of fdae-diffusers; the original is from
{benchmark.source}.{publication.terms}

## Citation

```bibtex
{publication.citation}
```
""")


def describe_column(name: str, feature: Any, publication: Publication) -> str:
    """Return a column's line in the card's table."""
    if isinstance(feature, datasets.ClassLabel):
        values = feature.names if len(feature.names) <= 10 else [*feature.names[:3], "...", feature.names[-1]]
        return f"| `{name}` | ClassLabel, {feature.num_classes} | {', '.join(values)} |"
    if name == "mask":
        return f"| `{name}` | 1-bit PNG | the renderer's foreground: pixels of which the object covers at least half |"
    return f"| `{name}` | RGB PNG | {publication.images} |"


def size_category(num_rows: int) -> str:
    """Return the Hub's name for a size: n<1K, 1K<n<10K, ..., 1M<n<10M."""
    bounds = ["1K", "10K", "100K", "1M", "10M"]
    exponent = len(str(num_rows)) - 1
    return "n<1K" if exponent < 3 else f"{bounds[exponent - 3]}<n<{bounds[exponent - 2]}"


if __name__ == "__main__":
    run_script(main)
