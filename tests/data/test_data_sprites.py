"""Sprites composed from sheets: tiny made-up ones, and the real ones where they are."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from helpers.paths import SHARED
from huggingface_hub import DatasetCard
from PIL import Image

from fdae_diffusers.data import get_benchmark, load_image_dataset
from fdae_diffusers.data.convert import convert_dataset
from fdae_diffusers.data.sprites_renderer import BACKGROUNDS, DIRECTIONS, LAYERS, MAX_OFFSET, SpritesRenderer
from fdae_diffusers.errors import FDAEError

SHEETS = SHARED / "data" / "sprites"
needs_sheets = pytest.mark.skipif(not SHEETS.exists(), reason="the sheets are not part of the repository")


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    """Sheets whose cells hold one rectangle each: columns 20 to 40, from a row that rises with the layer."""
    folder = tmp_path_factory.mktemp("sheets")
    for layer, (name, num_sheets) in enumerate(LAYERS.items()):
        (folder / name).mkdir()
        for sheet in range(num_sheets):
            cells = np.zeros((21, 64, 13, 64, 4), np.uint8)
            cells[:, 10 * layer : 10 * layer + 16, :, 20:40] = (40 * layer, 20 * sheet, 0, 255)
            cells[..., 20, 2] = 10 * np.arange(21)[:, None, None] + np.arange(13)[None, None]  # which cell
            Image.fromarray(cells.reshape(21 * 64, 13 * 64, 4)).save(folder / name / f"{sheet}.png")
    return folder


def test_the_whole_grid_and_the_published_looks(sheets):
    whole, published = SpritesRenderer(sheets), SpritesRenderer(sheets, published=True)
    assert whole.factor_names == ("body", "bottomwear", "topwear", "hair", "shoes", "direction", "frame")
    assert whole.factor_sizes == (7, 7, 7, 10, 3, 4, 9)
    assert whole.num_images == 370_440
    assert published.factor_names == ("body", "bottomwear", "topwear", "hair", "direction", "frame")
    assert published.factor_sizes == (6, 6, 6, 6, 4, 9)


def test_later_layers_cover_earlier_ones(sheets):
    renderer = SpritesRenderer(sheets)
    factors = (6, 5, 4, 9, 2, 3, 8)
    row = np.ravel_multi_index(factors, renderer.factor_sizes)
    image, parts = renderer.render(row)[0], renderer.part_masks(row)[0]
    assert parts[:, 30].tolist() == [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10 + [5] * 16 + [0] * 8
    for layer in range(len(LAYERS)):
        assert image[10 * layer + 5, 30].tolist() == [40 * layer, 20 * factors[layer], 0]
    assert image[5, 20, 2] == 10 * (8 + 3) + 8  # the cell of direction 3, frame 8
    assert not image[parts == 0].any()


def test_published_looks_are_rows_of_the_whole_grid(sheets):
    whole, published = SpritesRenderer(sheets), SpritesRenderer(sheets, published=True)
    factors = np.random.default_rng(0).integers(0, published.factor_sizes, (20, 6))
    rows = np.ravel_multi_index(tuple(factors.T), published.factor_sizes)
    same = np.ravel_multi_index(tuple(np.insert(factors, 4, 1, axis=1).T), whole.factor_sizes)
    np.testing.assert_array_equal(published.render(rows), whole.render(same))
    np.testing.assert_array_equal(published.part_masks(rows), whole.part_masks(same))


def test_background_and_offset_are_factors(sheets):
    renderer = SpritesRenderer(sheets, backgrounds=3, offsets=5)
    assert renderer.factor_names[-2:] == ("background", "offset")
    assert renderer.factor_sizes[-2:] == (3, 5)
    rows = np.arange(15)
    images, parts = renderer.render(rows), renderer.part_masks(rows)
    for row in rows:
        background, offset = divmod(row, 5)
        assert (images[row][parts[row] == 0] == BACKGROUNDS[background]).all()
        shift = [-MAX_OFFSET, -MAX_OFFSET // 2, 0, MAX_OFFSET // 2, MAX_OFFSET][offset]
        np.testing.assert_array_equal(np.flatnonzero(parts[row].any(axis=0)), np.arange(20, 40) + shift)
    np.testing.assert_array_equal(images[2], SpritesRenderer(sheets).render(0)[0])


def test_smaller_images_are_means(sheets):
    rows = np.array([5, 77_777])
    large, small = SpritesRenderer(sheets).render(rows), SpritesRenderer(sheets, size=32).render(rows)
    means = large.reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(small - means).max() <= 0.5
    parts = SpritesRenderer(sheets, size=32).part_masks(rows)
    np.testing.assert_array_equal(parts, SpritesRenderer(sheets).part_masks(rows)[:, ::2, ::2])


def test_order_and_number_of_rows_do_not_matter(sheets):
    renderer = SpritesRenderer(sheets)
    rows = np.random.default_rng(0).integers(0, renderer.num_images, 150)
    images = renderer.render(rows)
    assert images.shape == (150, 64, 64, 3)
    np.testing.assert_array_equal(renderer.render(rows[::-1]), images[::-1])
    np.testing.assert_array_equal(renderer.render(rows[70]), images[70:71])
    assert renderer.render([]).shape == (0, 64, 64, 3)


def test_seams_are_mixed_with_what_is_below(sheets, tmp_path):
    def make_seams(file):
        cells = np.zeros((21, 64, 13, 64, 4), np.uint8)
        cells[:, 35, :, 20:25] = (200, 0, 100, 51)
        cells[:, 35, :, 25:40] = (200, 0, 100, 204)
        Image.fromarray(cells.reshape(21 * 64, 13 * 64, 4)).save(file)

    renderer = SpritesRenderer(damaged(sheets, tmp_path, make_seams))
    row = np.ravel_multi_index((0, 0, 2, 3, 0, 0, 0), renderer.factor_sizes)
    image, parts = renderer.render(row)[0], renderer.part_masks(row)[0]
    assert image[35, 22].tolist() == [0.8 * 80 + 0.2 * 200, 0.8 * 40, 20]  # topwear 2 is (80, 40, 0)
    assert image[35, 30].tolist() == [0.2 * 80 + 0.8 * 200, 0.2 * 40, 80]
    assert parts[35, 20:40].tolist() == [3] * 5 + [4] * 15


@pytest.mark.parametrize("arguments", [{"size": 48}, {"size": 0}, {"backgrounds": 7}, {"offsets": 0}])
def test_impossible_arguments_are_an_error(sheets, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SpritesRenderer(sheets, **arguments)


def test_rows_outside_the_data_set_are_an_error(sheets):
    with pytest.raises(ValueError, match="out of bounds"):
        SpritesRenderer(sheets).render([370_440])


def damaged(sheets, tmp_path, change):
    """A copy of the sheets in which the sheet of hair 3 is another file."""
    for file in sheets.glob("*/*.png"):
        copy = tmp_path / file.parent.name / file.name
        copy.parent.mkdir(exist_ok=True)
        copy.symlink_to(file)
    victim = tmp_path / "hair" / "3.png"
    victim.unlink()
    change(victim)
    return tmp_path


def _empty_cell(file):
    Image.fromarray(np.zeros((1344, 832, 4), np.uint8)).save(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: None, "no sheet .*hair/3.png: name the folder with body, bottomwear"),
        (lambda file: file.write_bytes(b"no picture"), "cannot read the sheet .*hair/3.png"),
        (lambda file: Image.new("RGBA", (64, 64)).save(file), "64x64 pixels, not 832x1344"),
        (_empty_cell, "empty cell"),
    ],
)
def test_a_damaged_folder_is_named(sheets, tmp_path, change, message):
    with pytest.raises(FDAEError, match=message):
        SpritesRenderer(damaged(sheets, tmp_path, change))


@pytest.mark.parametrize("name", ["sprites", "sprites-published"])
def test_benchmarks_have_images_labels_and_part_masks(sheets, name):
    benchmark = get_benchmark(name)
    renderer = SpritesRenderer(sheets, published=name == "sprites-published")
    assert benchmark.factor_sizes == renderer.factor_sizes
    features, rows = benchmark.read_originals(sheets)
    assert list(features) == ["image", "part_mask", *benchmark.label_columns]
    assert features["label_direction"].names == list(DIRECTIONS)
    first = list(itertools.islice(rows, 12))
    assert [first[11][column] for column in benchmark.label_columns] == [*[0] * (len(renderer.factor_sizes) - 2), 1, 2]
    picture, parts = (
        np.asarray(Image.open(io.BytesIO(first[11][column]["bytes"]))) for column in ("image", "part_mask")
    )
    np.testing.assert_array_equal(picture, renderer.render(11)[0])
    np.testing.assert_array_equal(parts, renderer.part_masks(11)[0])


def test_converted_sprites_carry_licence_and_attribution(sheets, tmp_path):
    small = dataclasses.replace(get_benchmark("sprites"), factor_sizes=(1, 1, 1, 2, 1, 2, 9))
    convert_dataset(small, sheets, tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == ["cc-by-sa-3.0", "gpl-3.0"]
    assert "Liberated Pixel Cup" in card.text
    rows = load_image_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 36
    renderer = SpritesRenderer(sheets)
    whole = np.ravel_multi_index((0, 0, 0, 1, 0, 1, 3), renderer.factor_sizes)
    np.testing.assert_array_equal(np.asarray(rows[30]["image"]), renderer.render(whole)[0])
    np.testing.assert_array_equal(np.asarray(rows[30]["part_mask"]), renderer.part_masks(whole)[0])


@needs_sheets
def test_real_sheets_show_every_part():
    renderer = SpritesRenderer(SHEETS, offsets=2)
    rows = np.random.default_rng(0).integers(0, renderer.num_images, 500)
    parts = renderer.part_masks(rows)
    assert set(np.unique(parts)) == set(range(6))
    assert (parts == 1).any(axis=(1, 2)).all()  # some skin is always seen


@needs_sheets
def test_no_part_leaves_the_image_by_the_largest_offset():
    middle = SpritesRenderer(SHEETS).part_masks(np.arange(0, 370_440, 97))
    assert not middle[:, :, :MAX_OFFSET].any()
    assert not middle[:, :, -MAX_OFFSET:].any()


@needs_sheets
def test_real_sheets_compose_as_pillow_does():
    renderer = SpritesRenderer(SHEETS)
    for row in np.random.default_rng(1).integers(0, renderer.num_images, 20):
        *sheets, direction, frame = np.unravel_index(row, renderer.factor_sizes)
        picture = Image.new("RGBA", (832, 1344), "black")
        for name, sheet in zip(LAYERS, sheets, strict=True):
            with Image.open(SHEETS / name / f"{sheet}.png") as layer:
                picture.alpha_composite(layer.convert("RGBA"))
        cell = picture.crop((64 * frame, 64 * (8 + direction), 64 * frame + 64, 64 * (9 + direction)))
        difference = renderer.render(row)[0].astype(int) - np.asarray(cell.convert("RGB"))
        assert np.abs(difference).max() <= 1  # seams are rounded once per layer
