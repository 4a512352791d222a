import numpy as np
import pytest
import torch
from PIL import Image

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.image_processing import to_output, to_pixel_values

SIZE = 16


@pytest.fixture
def pixels() -> np.ndarray:
    """Three images (3, 16, 16, 3), uint8, of which the first holds every grey level."""
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    images[0] = np.arange(256, dtype=np.uint8).reshape(SIZE, SIZE, 1)
    return images


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth image (height, width, 3), uint8."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (255 * np.stack([x, y, (x + y) / 2], axis=-1)).round().astype(np.uint8)


def test_known_values():
    image = np.array([[0, 51, 255]], np.uint8).T.repeat(3, axis=1)
    values = to_pixel_values(image, 3)
    assert values.shape == (1, 3, 3, 3)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values[0, :, :, 0], torch.tensor([[-1.0, -0.6, 1.0]] * 3))


def test_every_kind_of_input_gives_the_same_pixel_values(pixels):
    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    unit = pixels / 255
    inputs = {
        "uint8 array": pixels,
        "list of PIL images": [Image.fromarray(image) for image in pixels],
        "list of arrays": list(pixels),
        "tuple of batches": (pixels[:2], pixels[2:]),
        "array of doubles in [0, 1]": unit,
        "array of floats in [-1, 1]": (2 * unit - 1).astype(np.float32),
        "uint8 tensor": channels_first,
        "float tensor": channels_first / 255,
        "signed list of tensors": list(channels_first / 127.5 - 1),
        "mixed list": [pixels[0], Image.fromarray(pixels[1]), channels_first[2] / 255],
    }
    expected = channels_first.double() / 127.5 - 1
    for name, images in inputs.items():
        values = to_pixel_values(images, SIZE)
        assert values.dtype == torch.float32, name
        torch.testing.assert_close(
            values.double(), expected, atol=1e-6, rtol=0, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_one_negative_image_makes_the_whole_list_signed():
    dark, bright = torch.full((3, SIZE, SIZE), -0.5), torch.full((3, SIZE, SIZE), 0.5)
    assert to_pixel_values([bright, dark], SIZE)[0].unique().item() == 0.5
    assert to_pixel_values([bright], SIZE)[0].unique().item() == 0.0


def test_half_precision_is_read():
    assert to_pixel_values(torch.ones(3, SIZE, SIZE, dtype=torch.bfloat16), SIZE).unique().item() == 1.0


def test_inputs_are_left_alone(pixels):
    before = pixels.copy()
    to_pixel_values(pixels, SIZE).zero_()
    tensor = torch.full((1, 3, SIZE, SIZE), -0.5)
    to_pixel_values(tensor, SIZE).zero_()
    assert (pixels == before).all()
    assert (tensor == -0.5).all()


@pytest.mark.parametrize("kind", ["L array", "L", "1", "P", "LA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_grey_of_any_mode_becomes_three_equal_channels(kind):
    grey = np.zeros((SIZE, SIZE), np.uint8)
    grey[4:] = 255
    picture = Image.fromarray(grey)
    if kind == "L array":
        values = to_pixel_values(grey, SIZE)
    elif kind == "I;16":
        values = to_pixel_values(Image.fromarray(grey.astype(np.uint16) * 257), SIZE)
    elif kind == "I":
        values = to_pixel_values(Image.fromarray(grey.astype(np.int32) * 257), SIZE)
    elif kind == "F":
        values = to_pixel_values(Image.fromarray(grey.astype(np.float32) / 255), SIZE)
    elif kind == "CMYK":
        values = to_pixel_values(picture.convert("RGB").convert(kind), SIZE)
    else:
        values = to_pixel_values(picture.convert(kind), SIZE)
    torch.testing.assert_close(values, torch.from_numpy(grey / 127.5 - 1).float().expand(1, 3, -1, -1))


def test_transparent_parts_become_white():
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[:, : SIZE // 2] = [255, 0, 0, 255]
    palette = Image.new("P", (SIZE, SIZE))
    palette.info["transparency"] = 0
    values = to_pixel_values([Image.fromarray(rgba), palette], SIZE)
    assert values[0, :, 0, 0].tolist() == [1, -1, -1]
    assert values[0, :, 0, -1].tolist() == [1, 1, 1]
    assert values[1].unique().item() == 1


def test_exif_orientation_is_applied():
    image = Image.fromarray(gradient(SIZE, SIZE))
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = to_pixel_values(image, SIZE)
    torch.testing.assert_close(turned, to_pixel_values(np.rot90(gradient(SIZE, SIZE), -1), SIZE))


@pytest.mark.parametrize("as_kind", [Image.fromarray, np.asarray, lambda a: torch.from_numpy(a).permute(2, 0, 1)])
@pytest.mark.parametrize("shape", [(48, 48), (48, 96), (90, 48), (7, 7)])
def test_other_sizes_are_cropped_at_the_center_and_resized(as_kind, shape):
    height, width = shape
    side = min(shape)
    top, left = (height - side) // 2, (width - side) // 2
    image = gradient(height, width)
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = square.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    values = to_pixel_values(as_kind(image), SIZE)
    assert values.shape == (1, 3, SIZE, SIZE)
    assert (values - to_pixel_values(expected, SIZE)).abs().max() < 0.1


def test_resizing_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for image in (stripes, Image.fromarray(stripes)):
        inner = to_pixel_values(image, SIZE)[..., 2:-2]
        assert inner.abs().max() < 0.05  # an even grey


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "empty"),
        (np.zeros((0, 8, 8, 3), np.uint8), "empty"),
        ("cat.png", "str"),
        ([None], "NoneType"),
        (np.zeros((8, 8, 4), np.uint8), "1 or 3 channels"),
        (np.zeros((3, 8, 8), np.uint8), "come last"),
        (torch.zeros(8, 8, 3), "before height and width"),
        (torch.zeros(1, 2, 3, 8, 8), "1 or 3 channels"),
        (np.zeros(8, np.uint8), "1 or 3 channels"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), "bool"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (torch.full((3, 8, 8), float("inf")), "infinite"),
        (np.full((8, 8, 3), 255.0), "uint8 for 0..255"),
        (torch.full((3, 8, 8), -1.5), r"\[-1, 1\]"),
    ],
)
def test_bad_input_is_one_clear_line(images, message):
    with pytest.raises(FDAEError, match=message) as caught:
        to_pixel_values(images, 8)
    assert "\n" not in str(caught.value)


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        to_pixel_values(np.zeros((8, 8, 3), np.uint8), 0)


def test_there_and_back_again(pixels):
    values = to_pixel_values(pixels, SIZE)
    for picture, image in zip(to_output(values, "pil"), pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), image)
    np.testing.assert_allclose(to_output(values, "np"), pixels / 255, atol=1e-6)
    torch.testing.assert_close(to_output(values, "pt"), (values + 1) / 2)
    torch.testing.assert_close(to_pixel_values(to_output(values, "pt"), SIZE), values)


def test_output_is_clipped_and_needs_no_gradient():
    values = torch.tensor([-3.0, 0.0, 3.0]).reshape(1, 3, 1, 1).requires_grad_()
    assert to_output(values, "pil")[0].getpixel((0, 0)) == (0, 128, 255)


def test_unknown_output_type_is_an_error():
    with pytest.raises(FDAEError, match="jpeg"):
        to_output(torch.zeros(1, 3, 8, 8), "jpeg")


def test_latents_are_left_as_they_are():
    values = torch.full((1, 3, 2, 2), -3.0)
    assert torch.equal(to_output(values, "latent"), values)


def test_images_of_several_devices_go_where_the_first_is():
    on_meta = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8, device="meta")
    assert to_pixel_values([on_meta, np.zeros((SIZE, SIZE, 3), np.uint8)], SIZE).device.type == "meta"
