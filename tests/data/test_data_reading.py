import logging

import numpy as np
import pytest
import torch
from helpers.image_files import BAD, GOOD, encode, grey, picture
from PIL import Image

from fdae_diffusers.data.reading import NUM_NAMED, ImageReader, one_line_errors
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.image_processing import pixels_to_values, to_pixel_values

SIZE = 8


def stored(data: bytes, path: str | None = None) -> dict:
    return {"bytes": data, "path": path}


@pytest.mark.parametrize("kind", BAD)
def test_bad_images_are_refused_by_name_or_skipped(kind):
    value = stored(BAD[kind], "folder/bad.png")
    with pytest.raises(FDAEError, match=r"cannot read row 3 \(folder/bad\.png\): .*on_bad_image=skip") as caught:
        ImageReader(SIZE).read(value, "row 3")
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)  # no address of an object
    reader = ImageReader(SIZE, "skip")
    assert reader.read(value, "row 3") is None
    assert reader.num_skipped == 1


@pytest.mark.parametrize("value", [None, stored(None), stored(None, "/nowhere/1.png")])
def test_what_is_not_there_is_bad(value):
    with pytest.raises(FDAEError, match=r"holds none|No such file"):
        ImageReader(SIZE).read(value, "row 0")
    assert ImageReader(SIZE, "skip").read(value, "row 0") is None


def test_a_failing_network_makes_no_image_a_bad_one():
    with pytest.raises(FDAEError, match=r"cannot download nothing://host/1\.png"):
        ImageReader(SIZE, "skip").read(stored(None, "nothing://host/1.png"), "row 0")


@pytest.mark.parametrize("kind", GOOD)
def test_odd_images_are_read(kind):
    data, image = GOOD[kind]
    pixels = ImageReader(SIZE).read(stored(data), "row 0")
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    values = pixels_to_values(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    atol = 0.1 if "GIF" in kind else 0  # whose palette is its own
    torch.testing.assert_close(values, to_pixel_values(image, SIZE)[0], atol=atol, rtol=0)


def test_pixels_give_the_pixel_values_of_every_mode():
    for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16", "F"):
        image = picture().convert("L").convert(mode) if mode in ("I;16", "F") else picture().convert(mode)
        if mode == "F":
            image = image.point(lambda value: value * (1 / 255) + 0)
        pixels = torch.from_numpy(ImageReader(SIZE).read(image, mode).copy()).permute(2, 0, 1)
        atol = 1 / 255 + 1e-6 if mode == "F" else 0  # rounded to 8 bits
        torch.testing.assert_close(pixels_to_values(pixels), to_pixel_values(image, SIZE)[0], atol=atol, rtol=0)


def test_several_frames_are_said_once(caplog):
    reader = ImageReader(SIZE)
    for name in ("row 1", "row 2"):
        reader.read(stored(GOOD["APNG"][0]), name)
    assert [record.message[:5] for record in caplog.records] == ["row 1"]
    assert "first one" in caplog.text


def test_a_gif_with_a_broken_second_frame_gives_its_first():
    whole = encode(picture(), "GIF", save_all=True, append_images=[picture(1)])
    np.testing.assert_array_equal(
        ImageReader(SIZE).read(stored(whole[:-100]), "row 0"), ImageReader(SIZE).read(stored(whole), "row 0")
    )


def test_the_first_bad_images_are_named_and_all_are_counted(caplog):
    reader = ImageReader(SIZE, "skip")
    with caplog.at_level(logging.WARNING):
        for row in range(20):
            reader.read(stored(b""), f"row {row}")
    assert reader.num_skipped == 20
    assert sum("skipping row" in record.message for record in caplog.records) == NUM_NAMED
    assert len(caplog.records) == NUM_NAMED + 1


def test_errors_of_workers_are_one_line():
    class Failing(torch.utils.data.Dataset):
        def __getitem__(self, row):
            return ImageReader(SIZE).read(stored(b""), f"row {row}")

        def __len__(self):
            return 1

    with pytest.raises(FDAEError) as caught, one_line_errors():
        list(torch.utils.data.DataLoader(Failing(), num_workers=1))
    assert str(caught.value).startswith("cannot read row 0: it is empty")
    assert "\n" not in str(caught.value)


def test_good_images_are_not_counted():
    reader = ImageReader(SIZE, "skip")
    assert (reader.read(stored(grey(7)), "row 0") == 7).all()
    assert (reader.read(Image.new("L", (4, 4), 9), "row 0") == 9).all()
    assert reader.num_skipped == 0
