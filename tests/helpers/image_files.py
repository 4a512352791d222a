"""Image files of many kinds, good and bad, for tests."""

import io
import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
from PIL import Image


def encode(image: Image.Image, file_format: str = "PNG", **settings) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **settings)
    return buffer.getvalue()


def picture(seed: int = 0, height: int = 20, width: int = 24) -> Image.Image:
    """A random RGB image."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def grey(level: int) -> bytes:
    """A PNG file of one grey level."""
    return encode(Image.new("RGB", (8, 8), (level,) * 3))


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims to have a size, and ends there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


BAD = {
    "zero bytes": b"",
    "text": b"this is no image",
    "truncated PNG": encode(picture())[:300],
    "truncated JPEG": encode(picture(), "JPEG")[:400],
    "corrupt PNG": encode(picture())[:60] + bytes(50) + encode(picture())[110:],
    "decompression bomb": png_header(30_000, 30_000),
    "floats out of range": encode(Image.fromarray(np.full((9, 9), 300, np.float32)), "TIFF"),
}
TWO_FRAMES = {"save_all": True, "append_images": [picture(1)]}
GOOD = {
    "GIF of two frames": (encode(picture(), "GIF", **TWO_FRAMES), picture().quantize(256)),
    "APNG": (encode(picture(), **TWO_FRAMES), picture()),
    "WebP of two frames": (encode(picture(), "WEBP", lossless=True, **TWO_FRAMES), picture()),
    "CMYK": (encode(picture().convert("CMYK"), "TIFF"), picture().convert("CMYK")),
    "1x1": (encode(picture(0, 1, 1)), picture(0, 1, 1)),
    "1x3000": (encode(picture(0, 3000, 1)), picture(0, 3000, 1)),
    "EXIF": (encode(picture(), exif=Image.Exif()), picture()),
}


def write_parquet(folder: Path, shards: list[list[bytes | None]], column: str = "image") -> str:
    """Write stored images as a data set laid out like a repository of the Hub, a file per list; return its name."""
    (folder / "data").mkdir(parents=True)
    for number, images in enumerate(shards):
        values = [None if image is None else {"bytes": image, "path": None} for image in images]
        dataset = datasets.Dataset.from_dict({column: values}).cast_column(column, datasets.Image())
        dataset.to_parquet(str(folder / "data" / f"train-{number:05d}-of-{len(shards):05d}.parquet"))
    return str(folder)
