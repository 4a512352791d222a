import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fdae_diffusers.metrics.pictures import grain, psnr


@pytest.fixture
def images():
    """Smooth pictures with an edge, (4, 32, 32, 3) in [0, 1]."""
    smooth = gaussian_filter(np.random.default_rng(0).random((4, 32, 32, 3)), (0, 4, 4, 0))
    smooth[:, :, 16:] = 1 - smooth[:, :, 16:]
    return smooth


def test_psnr_of_known_errors(images):
    np.testing.assert_allclose(psnr(images.clip(0, 0.9) + 0.1, images.clip(0, 0.9)), 20, atol=1e-4)
    assert (psnr(images, images) == 100).all()


def test_grain_tells_noise_from_blur_at_equal_psnr(images):
    generator = np.random.default_rng(1)
    textured = (images + generator.normal(0, 0.03, images.shape)).clip(0, 1)
    blurred = gaussian_filter(textured, (0, 1, 1, 0))
    noisy = textured + generator.normal(0, np.sqrt(np.square(blurred - textured).mean()), images.shape)
    np.testing.assert_allclose(psnr(noisy, textured).mean(), psnr(blurred, textured).mean(), atol=0.5)
    assert grain(noisy, textured).min() > 0.02
    assert grain(blurred, textured).max() < -0.02
    np.testing.assert_allclose(grain(textured, textured), 0)


def test_edge_that_moves_is_no_grain(images):
    assert abs(grain(np.roll(images, 1, axis=2), images)).max() < 0.01


def test_shapes_have_to_agree(images):
    with pytest.raises(ValueError, match="alike"):
        psnr(images, images[:2])
    with pytest.raises(ValueError, match="alike"):
        grain(images[0], images[0])
