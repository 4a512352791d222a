"""Where data sets come from: `datasets`, with errors of one line."""

from pathlib import Path
from typing import Any

import datasets

from ..errors import FDAEError, user_errors


def load_from_source(dataset_name: str | None, train_data_dir: str | None, name: str | None, **kwargs: Any) -> Any:
    """Call `datasets.load_dataset` for a data set or a folder of images, one of which is to be given.

    Raises:
        FDAEError: with one line that says what is wrong.
    """
    if (dataset_name is None) == (train_data_dir is None):
        raise FDAEError("give either dataset_name or train_data_dir")
    if train_data_dir is not None and not Path(train_data_dir).is_dir():
        raise FDAEError(f"there is no folder {train_data_dir!r}")
    with user_errors(
        f"cannot load the data set {dataset_name or train_data_dir!r}",
        *(OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError),
    ):
        if dataset_name is not None:
            return datasets.load_dataset(dataset_name, name=name, **kwargs)
        return datasets.load_dataset("imagefolder", data_dir=train_data_dir, **kwargs)
