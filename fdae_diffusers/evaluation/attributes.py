"""Predict the labels of a data set from a model's content codes, with a linear SVM per attribute."""

from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
from sklearn.model_selection import train_test_split

from ..data import ImageDataset, load_image_dataset
from ..errors import FDAEError
from ..hub.files import ATTRIBUTES_FILE
from ..metrics import attribute_accuracy
from ..utils.arguments import check_at_least_one
from .encode import encode_dataset
from .results import ResultConfig, public_name, result_path, write_result


@dataclass
class AttributeConfig(ResultConfig):
    """Settings of a prediction of attributes."""

    dataset_name: str = field(metadata={"help": "Hub id, or a local folder laid out like a Hub repository."})
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set, if it has several."}
    )
    split: str = field(default="train", metadata={"help": "Split that the SVMs learn from."})
    test_split: str | None = field(
        default=None, metadata={"help": "Split that they are tested on, instead of a random share of the other."}
    )
    test_fraction: float = field(default=0.2, metadata={"help": "That share."})
    attributes: list[str] = field(
        default_factory=list, metadata={"help": "Columns to predict; all of classes or booleans by default."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Column with the images."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only so many images of a split."})
    seed: int = field(default=0, metadata={"help": "Seed of the split and the SVMs."})
    batch_size: int = field(default=256, metadata={"help": "Images encoded at a time."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that read images; 0 reads in the main process."}
    )
    n_jobs: int = field(default=-1, metadata={"help": "Attributes fitted at a time; -1: one per core."})

    def __post_init__(self):
        check_at_least_one(self, ("batch_size", "max_samples"))
        if not 0 < self.test_fraction < 1:
            raise FDAEError(f"test_fraction must lie between 0 and 1, not {self.test_fraction}")


def predict_attributes(config: AttributeConfig) -> dict[str, Any]:
    """Encode the images, predict their attributes, print and write the accuracies.

    Returns:
        `attributes`: for each its `accuracy` on the held-out images, `majority_rate` (always guessing the most
        frequent training value), `chance` (guessing blindly, 1 / values) and number of `values`; `mean_accuracy`; and
        where they come from.

    Raises:
        FDAEError: If the model or the data set cannot be loaded, an attribute cannot be predicted, or there is
            a result already that is not to be replaced.
    """
    output = result_path(config, ATTRIBUTES_FILE)
    encoder = config.load_pipeline().encoder
    dataset, is_test = load_splits(config, encoder.config.sample_size)
    names = config.attributes or label_columns(dataset.features)
    labels = read_labels(dataset, names, is_test)
    images = ImageDataset(dataset, encoder.config.sample_size, image_column=config.image_column)
    codes = encode_dataset(encoder, images, config.batch_size, config.dataloader_num_workers)
    scores = attribute_accuracy(codes.content.numpy(), labels, is_test=is_test, seed=config.seed, n_jobs=config.n_jobs)
    values = [len(np.unique(column)) for column in labels.T]
    columns = zip(names, scores["accuracy"].tolist(), scores["majority_rate"].tolist(), values, strict=True)
    result = {
        "model": public_name(config.model),
        "variant": config.variant,
        "dataset_name": public_name(config.dataset_name),
        "seed": config.seed,
        "counts": {"train": int((~is_test).sum()), "test": int(is_test.sum())},
        "attributes": {
            name: {"accuracy": accuracy, "majority_rate": majority, "chance": 1 / size, "values": size}
            for name, accuracy, majority, size in columns
        },
        "mean_accuracy": scores["mean_accuracy"],
    }
    print_table(result)
    write_result(output, result)
    return result


def load_splits(config: AttributeConfig, size: int) -> tuple[datasets.Dataset, np.ndarray]:
    """The images of both splits, rendered ones at a given size, and which of them are held out, (n,) booleans."""

    def load(split: str) -> datasets.Dataset:
        return load_image_dataset(
            config.dataset_name,
            dataset_config_name=config.dataset_config_name,
            split=split,
            image_column=config.image_column,
            max_samples=config.max_samples,
            size=size,
        )

    train = load(config.split)
    if config.test_split is not None:
        test = load(config.test_split)
        return datasets.concatenate_datasets([train, test]), np.arange(len(train) + len(test)) >= len(train)
    is_test = np.zeros(len(train), dtype=bool)
    is_test[train_test_split(np.arange(len(train)), test_size=config.test_fraction, random_state=config.seed)[1]] = (
        True
    )
    return train, is_test


def label_columns(features: datasets.Features) -> list[str]:
    """The columns of classes or booleans.

    Raises:
        FDAEError: If there is none.
    """
    boolean = datasets.Value("bool")
    names = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel) or kind == boolean]
    if not names:
        raise FDAEError(f"no column holds classes or booleans; name attributes among {', '.join(features)}")
    return names


def read_labels(dataset: datasets.Dataset, names: list[str], is_test: np.ndarray) -> np.ndarray:
    """Labels (n, A) of the named columns as integers.

    Raises:
        FDAEError: If there is no such column, or it holds something else or one value only in the training images.
    """
    if missing := [name for name in names if name not in dataset.column_names]:
        raise FDAEError(f"there is no column {', '.join(missing)}; the columns are {', '.join(dataset.column_names)}")
    columns = dataset.select_columns(names).with_format("numpy")[:]
    for name, values in columns.items():
        if values.dtype.kind not in "biu" or values.ndim != 1:
            raise FDAEError(f"column {name} holds neither classes, booleans nor integers")
        if len(np.unique(values[~is_test])) < 2:
            raise FDAEError(f"column {name} has one value only among the training images: leave it out of attributes")
    return np.stack([columns[name].astype(np.int64) for name in names], axis=1)


def print_table(result: dict[str, Any]) -> None:
    """Print the accuracies as a Markdown table."""
    counts = result["counts"]
    print(f"\n{result['model']} on {result['dataset_name']}, {counts['train']:,} / {counts['test']:,} images\n")
    print("| attribute | values | accuracy | majority | chance |\n| --- | --- | --- | --- | --- |")
    for name, row in result["attributes"].items():
        print(
            f"| {name} | {row['values']} | {row['accuracy']:.3f} | {row['majority_rate']:.3f} | {row['chance']:.3f} |"
        )
