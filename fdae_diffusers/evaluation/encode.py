"""Encode a whole data set once: the codes that the metrics then only look up."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from ..codes import FDAECodes
from ..data import ImageDataset
from ..data.reading import one_line_errors
from ..errors import FDAEError
from ..models import CMFNet
from ..utils.files import whole_file
from ..utils.memory import keep_freed_memory

ROWS_PER_PART = 20_000


def encode_dataset(
    encoder: CMFNet,
    images: ImageDataset,
    batch_size: int = 256,
    num_workers: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Encode every image of a data set with E and the two heads; on a CPU, the process then keeps freed memory.

    Args:
        encoder: The model; it is put into evaluation mode.
        images: The n images.
        batch_size: Images at a time.
        num_workers: Processes that read images.
        cache_dir: Keep the codes here, in parts: an interrupted call goes on where it stopped, and the next one with
            the same weights and images reads them.
        progress: Show a progress bar.

    Returns:
        (n, K, d) float32: the N content codes, then the N mask codes (K = 2N), or the content code alone for N = 1.

    Raises:
        FDAEError: If content and mask codes differ in size, so that they do not fit one array.
    """
    config = encoder.config
    if config.num_concepts > 1 and config.content_dim != config.mask_dim:
        raise FDAEError(
            f"the model's codes differ in size (content_dim={config.content_dim}, mask_dim={config.mask_dim}), which "
            "scores and bases cannot take: train one with both the same"
        )
    encoder.eval()
    if encoder.device.type == "cpu":
        keep_freed_memory()
    folder = None
    if cache_dir is not None:
        folder = Path(cache_dir) / _cache_key(encoder, images)

    parts = []
    with tqdm(total=len(images), desc="encode", unit="image", disable=not progress) as progress_bar:
        for start in range(0, len(images), ROWS_PER_PART):
            rows = range(start, min(start + ROWS_PER_PART, len(images)))
            file = folder / f"{start:08d}.npy" if folder else None
            if file is not None and file.exists():
                part = np.load(file)
                progress_bar.update(len(part))
            else:
                part = _encode_rows(encoder, Subset(images, rows), batch_size, num_workers, progress_bar)
                if file is not None:
                    with whole_file(file) as unfinished:
                        np.save(unfinished, part)
            parts.append(part)
    return np.concatenate(parts)


def unpack_codes(array: np.ndarray, num_concepts: int) -> FDAECodes:
    """The codes of :func:`encode_dataset`, (n, K, d), as :class:`FDAECodes`."""
    both = torch.from_numpy(array)
    return FDAECodes(both[:, :num_concepts], both[:, num_concepts:] if num_concepts > 1 else None)


@torch.inference_mode()
def _encode_rows(encoder: CMFNet, images: Subset, batch_size: int, num_workers: int, progress_bar: tqdm) -> np.ndarray:
    parts = []
    with one_line_errors():
        for batch in DataLoader(images, batch_size=batch_size, num_workers=num_workers):
            codes = encoder.encode(batch["pixel_values"].to(encoder.device, encoder.dtype))
            both = codes.content if codes.mask is None else torch.cat([codes.content, codes.mask], dim=1)  # (B, K, d)
            parts.append(both.float().cpu().numpy())
            progress_bar.update(len(both))
    return np.concatenate(parts)


def _cache_key(encoder: CMFNet, images: ImageDataset) -> str:
    """Digest of weights, data set and image size."""
    digest = hashlib.sha256(f"{images.dataset._fingerprint} {images.size}".encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
