"""Codes of images in a safetensors file: tensors "content" and "mask", and whose they are in the metadata."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .codes import FDAECodes
from .errors import FDAEError


def save_codes(codes: FDAECodes, path: str | Path, images: Sequence[str], model: str) -> None:
    """Write codes of B images: content (B, N, d_c) and, unless N = 1, mask (B, N, d_m).

    Args:
        codes: The codes.
        path: The file.
        images: Names of the B images, stored in the metadata as a JSON list.
        model: The model that encoded them, stored too.
    """
    tensors = {"content": codes.content} | ({} if codes.mask is None else {"mask": codes.mask})
    metadata = {"images": json.dumps(list(images)), "model": model}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path, metadata)


def load_codes(path: str | Path) -> tuple[FDAECodes, list[str]]:
    """Read the codes of B images and the images' names.

    Raises:
        FDAEError: If there is no such file, or it holds no codes.
    """
    if not Path(path).is_file():
        raise FDAEError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            mask = file.get_tensor("mask") if "mask" in file.keys() else None  # noqa: SIM118
            codes = FDAECodes(file.get_tensor("content"), mask)
            return codes, json.loads(file.metadata()["images"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FDAEError(f"{path} holds no codes: make it with `fdae encode`") from error
