"""Random weights of the released implementation at a small size, made again from the seeds that they came from.

The file of these weights is 38 MB, but the numbers in it come from seeds: torch's generator gives them again. Stored
are all vectors (biases, norms, running statistics) and, for every matrix and kernel, where its numbers stand in the
stream:

- `uniform`: as torch initialises Linear and Conv2d, in +-1 / sqrt(fan_in);
- `kaiming`: as torchvision initialises the kernels of a ResNet, N(0, 2 / fan_out);
- `normal`: layers that start at zero, where nothing could be compared: N(0, 0.02^2) instead.
"""

import json

import numpy as np
import torch
from safetensors.torch import load_file

from .paths import FIXTURES

FOLDER = FIXTURES / "parity"


def released_weights() -> dict[str, torch.Tensor]:
    """The weights by their released names, in half precision as they were stored."""
    weights = load_file(FOLDER / "vectors.safetensors")
    streams: dict[int, np.ndarray] = {}
    layout = json.loads((FOLDER / "layout.json").read_text())
    for seed in {entry["seed"] for entry in layout.values()}:
        length = max(entry["start"] + np.prod(entry["shape"]) for entry in layout.values() if entry["seed"] == seed)
        streams[seed] = torch.rand(int(length), generator=torch.Generator().manual_seed(seed)).numpy()
    for name, entry in layout.items():
        numbers = streams[entry["seed"]][entry["start"] :][: int(np.prod(entry["shape"]))]
        values = _DISTRIBUTIONS[entry["distribution"]](numbers, entry["shape"]).astype(np.float16)
        weights[name] = torch.from_numpy(values.reshape(entry["shape"]))
    return weights


def _uniform(numbers: np.ndarray, shape: list[int]) -> np.ndarray:
    return (2 * numbers - 1) / np.sqrt(np.prod(shape[1:]))


def _kaiming(numbers: np.ndarray, shape: list[int]) -> np.ndarray:
    return _standard_normal(numbers) * np.sqrt(2 / (shape[0] * np.prod(shape[2:])))


def _normal(numbers: np.ndarray, shape: list[int]) -> np.ndarray:
    return _standard_normal(numbers) * 0.02


def _standard_normal(numbers: np.ndarray) -> np.ndarray:
    """Box and Muller's transform of uniform numbers, in groups of 16 as in torch's `normal_`."""
    radius, angle = np.moveaxis(numbers.reshape(-1, 2, 8), 1, 0).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log1p(-radius)), 2 * np.pi * angle
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


_DISTRIBUTIONS = {"uniform": _uniform, "kaiming": _kaiming, "normal": _normal}
