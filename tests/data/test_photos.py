import numpy as np
import pytest
from PIL import Image

from fdae_diffusers.data.photos import LEFT_OUT_FILE, MIN_PICTURES, prepare_pictures
from fdae_diffusers.errors import FDAEError


@pytest.fixture
def photos(tmp_path):
    """Ten wide pictures, a green square in red, in a folder and a sub-folder, and files that are no pictures."""
    folder = tmp_path / "photos"
    (folder / "test").mkdir(parents=True)  # a name that data sets take for a split
    picture = Image.new("RGB", (60, 40), "red")
    picture.paste("lime", (10, 0, 50, 40))
    for number in range(10):
        picture.save(folder / ("test" if number % 2 else ".") / f"{number}.png")
    (folder / "IMG_1.HEIC").write_bytes(b"heic")
    (folder / "notes.txt").write_text("text")
    (folder / "half.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / ".hidden").write_text("text")
    return folder


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_pictures_become_squares_and_other_files_are_named(photos, tmp_path, fit):
    prepared = prepare_pictures(photos, tmp_path / "small", 16, fit)
    assert prepared.num_pictures == len(list(prepared.folder.glob("*.png"))) == 10
    assert prepared.left_out.keys() == {"IMG_1.HEIC", "notes.txt", "half.png"}
    assert "HEIC" in prepared.left_out["IMG_1.HEIC"]
    assert (prepared.folder / LEFT_OUT_FILE).read_text().count("\n") == 3
    with Image.open(prepared.folder / "000000.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (16, 16, 3)
    is_green = pixels[..., 1] > 200
    assert is_green[8, 8]
    assert is_green[8, 0] == (fit == "crop")  # the red ends are cut off, or stay
    assert is_green[0, 8] == (fit == "crop")  # padded with a mixture


def test_an_earlier_result_is_replaced_and_the_originals_never(photos, tmp_path):
    for size in (16, 8):
        prepared = prepare_pictures(photos, tmp_path / "small", size)
    with Image.open(prepared.folder / "000000.png") as image:
        assert image.size == (8, 8)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000.png").write_text("precious")
    for target in (photos, tmp_path, tmp_path / "mine"):
        with pytest.raises(FDAEError, match=target.name):
            prepare_pictures(photos, target, 8)
    assert (tmp_path / "mine" / "000000.png").read_text() == "precious"


def test_too_few_pictures_are_refused_with_what_was_left_out(photos, tmp_path):
    for path in photos.glob("test/*"):
        path.unlink()
    assert len(list(photos.glob("?.png"))) < MIN_PICTURES
    with pytest.raises(FDAEError, match=r"has 5 pictures.*IMG_1\.HEIC"):
        prepare_pictures(photos, tmp_path / "small", 8)
    assert not (tmp_path / "small").exists()
    with pytest.raises(FDAEError, match="absent"):
        prepare_pictures(tmp_path / "absent", tmp_path / "small", 8)
