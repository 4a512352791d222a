"""Encode a whole data set once: the codes that the metrics then only look up."""

import hashlib
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from ..codes import FDAECodes
from ..data import ImageDataset
from ..data.reading import one_line_errors
from ..models import CMFNet
from ..utils.memory import keep_freed_memory

ROWS_PER_PART = 20_000


def encode_dataset(
    encoder: CMFNet,
    images: ImageDataset,
    batch_size: int = 256,
    num_workers: int = 0,
    codes_cache_dir: str | Path | None = None,
    progress: bool = True,
) -> FDAECodes:
    """Encode every image of a data set with E and the two heads; on a CPU, the process then keeps freed memory.

    Args:
        encoder: The model; it is put into evaluation mode.
        images: The n images.
        batch_size: Images at a time.
        num_workers: Processes that read images.
        codes_cache_dir: Keep the codes here, in parts: an interrupted call goes on where it stopped, and the next one
            with the same weights and images reads them.
        progress: Show a progress bar, on a terminal.

    Returns:
        Codes of n images, float32, on the CPU.
    """
    encoder.eval()
    if encoder.device.type == "cpu":
        keep_freed_memory()
    folder = None
    if codes_cache_dir is not None:
        folder = Path(codes_cache_dir) / _cache_key(encoder, images)

    parts = []
    hidden = None if progress else True  # None: unless it is a terminal
    with tqdm(total=len(images), desc="encode", unit="image", disable=hidden) as progress_bar:
        for start in range(0, len(images), ROWS_PER_PART):
            rows = range(start, min(start + ROWS_PER_PART, len(images)))
            file = folder / f"{start:08d}.safetensors" if folder else None
            if file is not None and file.exists():
                part = FDAECodes.load(file)
                progress_bar.update(len(part))
            else:
                part = _encode_rows(encoder, Subset(images, rows), batch_size, num_workers, progress_bar)
                if file is not None:
                    part.save(file)
            parts.append(part)
    return FDAECodes.cat(parts)


def code_sizes(encoder: CMFNet) -> list[int]:
    """Return the dimensions of the K codes that a model is scored by: N content codes, then N mask codes if N > 1."""
    config = encoder.config
    sizes = [config.content_dim] * config.num_concepts
    return sizes if config.num_concepts == 1 else sizes + [config.mask_dim] * config.num_concepts


@torch.no_grad()
def _encode_rows(encoder: CMFNet, images: Subset, batch_size: int, num_workers: int, progress_bar: tqdm) -> FDAECodes:
    parts = []
    with one_line_errors():
        for batch in DataLoader(images, batch_size=batch_size, num_workers=num_workers):
            codes = encoder.encode(batch["pixel_values"].to(encoder.device, encoder.dtype))
            mask = None if codes.mask is None else codes.mask.float().cpu()
            parts.append(FDAECodes(codes.content.float().cpu(), mask))
            progress_bar.update(len(codes))
    return FDAECodes.cat(parts)


def _cache_key(encoder: CMFNet, images: ImageDataset) -> str:
    """Digest of weights, data set and image size."""
    digest = hashlib.sha256(f"{images.dataset._fingerprint} {images.size}".encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
