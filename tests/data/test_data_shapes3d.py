import math
import pickle

import numpy as np
import pytest
from helpers.paths import SHARED
from PIL import Image
from torch.utils.data import DataLoader

from fdae_diffusers.data import BENCHMARKS, ImageDataset, Shapes3DRenderer, rendered_shapes3d
from fdae_diffusers.data.shapes3d_renderer import HUE_COLORS, RAYS_PER_PIXEL
from fdae_diffusers.data.shapes3d_scene import (
    FLOOR,
    OBJECT,
    ORIENTATIONS,
    SCALES,
    SHAPES,
    SKY,
    SKY_COLOR,
    WALL,
    Scene,
    Surfaces,
    cast_rays,
)

SHAPES3D = BENCHMARKS["shapes3d"]
SAMPLES = SHARED / "data" / "shapes3d-samples"


def cast(row: int, rays: int) -> Surfaces:
    scale, shape, orientation = SHAPES3D.rows_to_factors(row)[3:]
    return cast_rays(SCALES[scale], SHAPES[shape], ORIENTATIONS[orientation], rays)


def render_without_table(row: int, size: int) -> np.ndarray:
    """Colour every ray of one image, then average the rays of a pixel."""
    surfaces = cast(row, size * RAYS_PER_PIXEL)
    hues = SHAPES3D.rows_to_factors(row)[:3]
    albedo = np.stack([np.zeros(3), *HUE_COLORS[hues]])[surfaces.layer]  # (n, n, 3)
    colors = (albedo * surfaces.diffuse[..., None] + surfaces.specular[..., None]).clip(0, 1)
    colors[surfaces.layer == SKY] = SKY_COLOR
    return 255 * colors.reshape(size, RAYS_PER_PIXEL, size, RAYS_PER_PIXEL, 3).mean((1, 3))


def coverage(row: int, layer: int, size: int) -> np.ndarray:
    """Tell which pixels (size, size) show any of a layer."""
    rays = cast(row, size * RAYS_PER_PIXEL).layer == layer
    return rays.reshape(size, RAYS_PER_PIXEL, size, RAYS_PER_PIXEL).any((1, 3))


@pytest.mark.parametrize("size", [1, 17, 32, 48])
def test_table_equals_ray_casting(size):
    rows = np.random.default_rng(size).integers(0, SHAPES3D.num_images, 12)
    images = Shapes3DRenderer(size).render(rows)
    assert images.shape == (12, size, size, 3)
    assert images.dtype == np.uint8
    for row, image in zip(rows, images, strict=True):
        assert np.abs(image - render_without_table(row, size)).max() < 0.51  # half a grey level is rounding


@pytest.mark.parametrize(("factor", "layer"), [(0, FLOOR), (1, WALL), (2, OBJECT)])
def test_a_hue_changes_its_layer_alone(factor, layer):
    factors = np.array([[3, 5, 8, 4, 1, 10]] * 2)
    factors[1, factor] = 1
    rows = SHAPES3D.factors_to_rows(factors)
    one, other = Shapes3DRenderer(24).render(rows)
    np.testing.assert_array_equal((one != other).any(-1), coverage(rows[0], layer, 24))


def test_every_geometry_is_another_image():
    images = Shapes3DRenderer(32).render(np.arange(480))
    assert len({image.tobytes() for image in images}) == 480


def test_objects_grow_with_scale():
    for shape in range(4):
        areas = [(cast(scale * 60 + shape * 15 + 7, 96).layer == OBJECT).mean() for scale in range(8)]
        assert areas == sorted(areas)
        assert 0.02 < areas[0] < 1.5 * areas[0] < areas[-1] < 0.25


def test_a_sphere_looks_as_large_as_perspective_says():
    scene = Scene(camera_height=1.3, target_height=1.3, sphere_radius=1.3)
    area = (cast_rays(1.0, "sphere", 12.0, 200, scene).layer == OBJECT).mean()
    radius = math.tan(math.asin(1.3 / scene.camera_distance)) / math.tan(math.radians(scene.field_of_view) / 2)
    assert area == pytest.approx(math.pi * radius**2 / 4, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_object_alone_is_glossy_and_throws_a_shadow(shape):
    surfaces = cast_rays(1.0, shape, 0.0, 96)
    assert (surfaces.specular > 0).any()
    assert not surfaces.specular[surfaces.layer != OBJECT].any()
    floor = surfaces.diffuse[surfaces.layer == FLOOR]
    assert floor.min() < 0.7 * floor.max()


def test_psnr_against_the_real_images():
    if not SAMPLES.is_dir():
        pytest.skip(f"the real images are not at {SAMPLES}")
    paths = sorted(SAMPLES.glob("*.jpg"))
    real = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    rendered = Shapes3DRenderer(64).render([int(path.stem) for path in paths])
    errors = ((real.astype(float) - rendered) ** 2).mean((1, 2, 3))
    psnr = 10 * np.log10(255**2 / errors)
    assert psnr.mean() >= 25


def test_renderer_pickles_small_and_renders_the_same():
    renderer = Shapes3DRenderer(17)
    images = renderer.render([1, 2])
    stored = pickle.dumps(renderer)
    assert len(stored) < 1000
    np.testing.assert_array_equal(pickle.loads(stored).render([1, 2]), images)


def test_no_rows_give_no_images_and_wrong_rows_an_error():
    assert Shapes3DRenderer(8).render([]).shape == (0, 8, 8, 3)
    with pytest.raises(ValueError, match="out of bounds"):
        Shapes3DRenderer(8).render([480_000])
    with pytest.raises(ValueError, match="size"):
        Shapes3DRenderer(0)


def test_unknown_shape_is_named():
    with pytest.raises(ValueError, match="cone"):
        cast_rays(1.0, "cone", 0.0, 8)


def test_data_set_is_laid_out_like_the_one_on_the_hub():
    dataset = rendered_shapes3d(16)
    assert len(dataset) == 480_000
    assert dataset.column_names == ["image", *SHAPES3D.label_columns]
    row = dataset[33_042]
    assert [row[column] for column in SHAPES3D.label_columns] == [0, 6, 8, 6, 2, 12]
    assert row["image"].size == (16, 16)
    assert dataset.features["label_shape"].num_classes == 4


def test_images_belong_to_their_labels_after_selecting_shuffling_and_splitting():
    dataset = rendered_shapes3d(16, rows=range(1000, 1100)).shuffle(seed=0).select(range(20))
    part = dataset.train_test_split(test_size=0.5, seed=0)["test"]
    rows = SHAPES3D.factors_to_rows(SHAPES3D.read_factors(part))
    expected = Shapes3DRenderer(16).render(rows)
    for image, batched, reference in zip(part["image"], part[:]["image"], expected, strict=True):
        np.testing.assert_array_equal(np.asarray(image), reference)
        np.testing.assert_array_equal(np.asarray(batched), reference)
    assert set(part.remove_columns("image")[0]) == set(SHAPES3D.label_columns)


def test_data_loader_workers_render_the_same():
    images = ImageDataset(rendered_shapes3d(16, rows=[5, 17, 444_444, 99]), size=16)
    images = pickle.loads(pickle.dumps(images))  # as for workers that are started anew
    batches = [list(DataLoader(images, batch_size=2, num_workers=workers)) for workers in (0, 1)]
    for here, there in zip(*batches, strict=True):
        assert (here["pixel_values"] == there["pixel_values"]).all()
