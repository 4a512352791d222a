"""Turn a benchmark's original files into a folder of parquet files, laid out like a data set on the Hugging Face Hub.

`datasets.load_dataset` and the flags for data sets take the folder. It appears when it is complete.
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

from ..errors import FDAEError
from ..utils.files import new_folder
from .benchmarks import BENCHMARKS, Benchmark, get_benchmark

ROWS_PER_SHARD = 20_000  # up to 200 MB at 64x64
ROWS_PER_GROUP = 1000  # what is read to get at one row, and held in memory to write it


def _readable() -> dict[str, Benchmark]:
    return {name: benchmark for name, benchmark in BENCHMARKS.items() if benchmark.read is not None}


def _original_files() -> str:
    return "; ".join(dict.fromkeys(benchmark.original_files for benchmark in _readable().values()))


@dataclass
class ConversionConfig:
    """Settings of a conversion."""

    benchmark: str = field(metadata={"help": lambda: f"One of {', '.join(_readable())}."})
    source: str = field(metadata={"help": lambda: f"The original files: {_original_files()}."})
    output_dir: str = field(metadata={"help": "Folder to write; there must be nothing in it yet."})
    rows_per_shard: int = field(default=ROWS_PER_SHARD, metadata={"help": "Images in one parquet file."})


def convert(config: ConversionConfig) -> None:
    """Convert the original files of a benchmark, see `convert_dataset`.

    Raises:
        FDAEError: If there is no such benchmark, or as `convert_dataset`.
    """
    convert_dataset(get_benchmark(config.benchmark), config.source, config.output_dir, config.rows_per_shard)
    print(f"written to {config.output_dir}")


def convert_dataset(
    benchmark: Benchmark, source: str | Path, output_dir: str | Path, rows_per_shard: int = ROWS_PER_SHARD
) -> None:
    """Write the images and labels of original files, and a card, to a new folder, whole or not at all.

    Args:
        benchmark: Which data set; it must have a reader.
        source: Its original files, see `Benchmark.original_files`.
        output_dir: Folder to write; there must be nothing in it yet.
        rows_per_shard: Images in one parquet file.

    Raises:
        FDAEError: If there is something in the folder, or the files are missing, damaged or not the benchmark's.
    """
    if rows_per_shard < 1:
        raise FDAEError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
    with new_folder(output_dir) as folder:
        features, rows = benchmark.read_originals(source)
        progress = tqdm(rows, total=benchmark.num_images, unit=" images", disable=None)
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
    metadata = DatasetCardData(
        license=list(benchmark.license) if isinstance(benchmark.license, tuple) else benchmark.license,
        pretty_name=benchmark.title,
        task_categories=["unconditional-image-generation"],
        tags=["disentanglement"],
        size_categories=[size_category(benchmark.num_images)],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    )
    columns = "\n".join(describe_column(name, feature, benchmark) for name, feature in features.items())
    first, last = benchmark.label_columns[0], benchmark.label_columns[-1]
    return DatasetCard(f"""---
{metadata}
---

# {benchmark.title}

The {benchmark.num_images:,} images of a disentanglement benchmark, one for each combination of the values of its
{len(benchmark.factor_names)} factors, in row-major order: `{first}` is slowest, `{last}` is fastest.

| column | type | content |
| --- | --- | --- |
{columns}

Made from `{source_name}` by `training/convert_dataset.py` of fdae-diffusers; the original is from
{benchmark.source}.

{benchmark.terms}

## Citation

```bibtex
{benchmark.citation}
```
""")


def describe_column(name: str, feature: Any, benchmark: Benchmark) -> str:
    """Return a column's line in the card's table."""
    if isinstance(feature, datasets.ClassLabel):
        values = feature.names if len(feature.names) <= 10 else [*feature.names[:3], "...", feature.names[-1]]
        return f"| `{name}` | ClassLabel, {feature.num_classes} | {', '.join(values)} |"
    kind, content = benchmark.columns.get(name, ("PNG", ""))
    return f"| `{name}` | {kind} | {content} |"


def size_category(num_rows: int) -> str:
    """Return the Hub's name for a size: n<1K, 1K<n<10K, ..., 1M<n<10M."""
    bounds = ["1K", "10K", "100K", "1M", "10M"]
    exponent = len(str(num_rows)) - 1
    return "n<1K" if exponent < 3 else f"{bounds[exponent - 3]}<n<{bounds[exponent - 2]}"
