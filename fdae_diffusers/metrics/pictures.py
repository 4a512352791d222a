"""Compare pictures with the pictures they should be: error in dB, and grain, which the error does not see."""

import numpy as np
from scipy.ndimage import laplace


def psnr(pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each picture, (n,) in dB.

    Args:
        pictures: (n, H, W, C) in [0, 1].
        references: (n, H, W, C) in [0, 1], what they should be.

    Raises:
        ValueError: If the shapes differ.
    """
    pictures, references = _pairs(pictures, references)
    errors = np.square(pictures - references).mean(axis=(1, 2, 3))
    return -10 * np.log10(errors.clip(1e-10))


def grain(pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return how much more fine structure each picture has than it should, (n,): noise above 0, blur below.

    This is the unit of grain everywhere in the package: 0 is as it should be, .02 (5 of 255 grey levels) a noise that
    the eye sees. Fine structure is what the Laplacian of an image sees, the difference of a pixel from its four
    neighbours: the root of its mean square, in units of the full range. Two pictures of equal PSNR, one blurred and
    one full of salt and pepper, differ in its sign. The median over the picture's tiles of 8x8 pixels is taken, so
    that edges that moved count little and noise that is everywhere counts fully.

    Args:
        pictures: (n, H, W, C) in [0, 1], H and W multiples of 8.
        references: (n, H, W, C) in [0, 1], what they should be.

    Raises:
        ValueError: If the shapes differ.
    """
    pictures, references = _pairs(pictures, references)
    return np.median(_fine_structure(pictures) - _fine_structure(references), axis=1)


def _fine_structure(images: np.ndarray) -> np.ndarray:
    """Root mean square of the Laplacian in each tile, (n, tiles)."""
    square = np.square(laplace(images, axes=(1, 2), mode="nearest")).mean(axis=3)  # (n, H, W)
    n, height, width = square.shape
    tiles = square[:, : height // 8 * 8, : width // 8 * 8].reshape(n, height // 8, 8, width // 8, 8)
    return np.sqrt(tiles.mean(axis=(2, 4))).reshape(n, -1)


def _pairs(pictures: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pictures, references = np.asarray(pictures, np.float32), np.asarray(references, np.float32)
    if pictures.shape != references.shape or pictures.ndim != 4:
        raise ValueError(f"expected two arrays (n, H, W, C) alike, got {pictures.shape} and {references.shape}")
    return pictures, references
