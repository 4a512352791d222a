"""The health of models that are known: toys that paint three stripes, and networks of a few thousand parameters."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models import micro_pipeline

from fdae_diffusers import FDAECodes
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.health import HealthReport, find_foreign_images, measure_health
from fdae_diffusers.health.foreign import foreign_among

SIZE, NUM_IMAGES = 16, 12
NOISE = np.random.default_rng(1).normal(0, 0.1, (1, SIZE, SIZE, 3))


class Stripes:
    """A perfect model of three stripes: content codes are their colours, mask codes where the first two end.

    Args:
        fog: Share of each mask that is spread evenly over the concepts.
        dead: The third stripe has no width.
        twins: The second and third concepts share their stripes.
        still: All images have stripes of the same width.
        painted_by: The kind of codes that alone changes pictures; both by default.
        noise: What is added to all pictures.
    """

    default_num_inference_steps = 2

    def __init__(self, fog=0.0, dead=False, twins=False, still=False, painted_by=None, noise=0.0):
        self.fog, self.twins, self.painted_by, self.noise = fog, twins, painted_by, noise
        self.encoder = SimpleNamespace(config=SimpleNamespace(sample_size=SIZE))
        generator = torch.Generator().manual_seed(0)
        ends = torch.stack([torch.randint(3, 7, (NUM_IMAGES,), generator=generator)] * 3, dim=1).float()
        ends[:, 1] += torch.randint(3, 7, (NUM_IMAGES,), generator=generator)
        if still:
            ends[:] = ends[0]
        if dead:
            ends[:, 1] = SIZE
        self.codes = FDAECodes(torch.rand(NUM_IMAGES, 3, 3, generator=generator), ends[..., None])
        self._read = 0

    def encode(self, images):
        self._read += len(images)
        return self.codes[self._read - len(images) : self._read]

    def decode_masks(self, codes):
        ends = codes.mask[:, :2, 0]
        place = (torch.arange(SIZE) >= ends[..., None]).sum(dim=1)  # (n, W)
        masks = torch.nn.functional.one_hot(place, 3).float()
        if self.twins:
            masks[..., 1:] = masks[..., 1:].sum(dim=-1, keepdim=True) * torch.tensor([0.51, 0.49])
        masks = (1 - self.fog) * masks + self.fog / 3
        return masks.movedim(2, 1)[:, :, None].expand(-1, -1, SIZE, -1)

    def prepare_latents(self, batch_size, generator):
        return torch.randn(batch_size, 3, SIZE, SIZE, generator=generator)

    def decode(self, codes, num_inference_steps, latents, output_type, batch_size):
        first = self.codes[[0] * len(codes)]
        content = first.content if self.painted_by == "mask" else codes.content
        mask = first.mask if self.painted_by == "content" else codes.mask
        masks = self.decode_masks(FDAECodes(content, mask))
        pictures = torch.einsum("bnhw,bnc->bhwc", masks, content).numpy()
        return (pictures + self.noise * NOISE).clip(0, 1)

    def images(self):
        clean = Stripes.decode(
            SimpleNamespace(**{**vars(self), "noise": 0.0}, decode_masks=self.decode_masks),
            self.codes,
            1,
            None,
            "np",
            1,
        )
        return torch.from_numpy(clean).movedim(3, 1).float()


def health_of(**kinds) -> HealthReport:
    model = Stripes(**kinds)
    return measure_health(model, model.images(), batch_size=5)


def test_a_perfect_model_has_nothing_to_be_told():
    health = health_of()
    assert health.advice() == []
    assert (health.num_images, health.num_inference_steps, health.num_alive) == (NUM_IMAGES, 2, 3)
    assert health.psnr == pytest.approx(100)
    assert health.crispness == 1
    assert health.content_inside == pytest.approx([1, 1, 1])  # a colour changes nothing outside its stripe
    assert health.mask_effect[2] == 0  # which no end depends on
    assert sum(health.usage) == pytest.approx(1)
    # colours and ends of the other image make the other image
    assert 0 < health.content_effect_all < 1.5


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ({"fog": 0.7}, "fog"),
        ({"dead": True}, "concept 2 never appears"),
        ({"twins": True}, "concepts 1 and 2 go together"),
        ({"still": True}, "same for all"),
        ({"painted_by": "mask"}, "swapped content codes change nothing"),
        ({"painted_by": "content"}, "swapped mask codes change nothing"),
        ({"noise": 1.0}, "grainy"),
        ({"noise": 4.0}, "poor"),
    ],
    ids=str,
)
def test_each_fault_is_told(kinds, word):
    assert [line for line in health_of(**kinds).advice() if word in line]


@pytest.mark.parametrize(
    ("kinds", "number"),
    [({"fog": 0.7}, 1), ({"dead": True}, 1), ({"twins": True}, 2), ({"still": True}, 2), ({"painted_by": "mask"}, 1),
     ({"painted_by": "content"}, 1), ({"noise": 1.0}, 1)],
    ids=str,
)  # fmt: skip
def test_nothing_else_is_told(kinds, number):
    """Twins are no clear masks besides, and masks that stay where they are swap without effect."""
    assert len(health_of(**kinds).advice()) == number


def test_real_networks_give_the_same_numbers_whatever_the_batch(images):
    pipeline = micro_pipeline()
    one, other = (
        measure_health(pipeline, images, batch_size=size, num_swaps=3, num_inference_steps=2) for size in (2, 64)
    )
    for name, value in one.numbers.items():
        assert value == pytest.approx(other.numbers[name], abs=1e-3), name
    assert len(one.image_psnr) == 5
    assert one.psnr == pytest.approx(np.mean(one.image_psnr))
    with pytest.raises(FDAEError, match="two images"):
        measure_health(pipeline, images[:1])


def test_a_single_concept_has_no_masks_to_judge(images):
    health = measure_health(micro_pipeline(num_concepts=1), images, num_inference_steps=1)
    assert health.mask_effect == []
    assert not [line for line in health.advice() if "mask" in line or "concept" in line]
    assert "concept" not in str(health).splitlines()[1]


def test_report_is_read_as_it_was_written(tmp_path, images):
    health = measure_health(micro_pipeline(), images, held_out=True, num_inference_steps=1)
    health.save(tmp_path / "health.json")
    assert HealthReport.load(tmp_path / "health.json") == health
    assert "not trained on" in str(health)
    for text in ("{}", "[", '{"duplicates": 1}'):
        (tmp_path / "health.json").write_text(text)
        with pytest.raises(FDAEError, match="no health report"):
            HealthReport.load(tmp_path / "health.json")


def test_foreign_pictures_are_those_far_below_the_models_own():
    health = health_of(noise=0.5)
    assert 0 < health.psnr_low <= health.psnr < 40
    low = health.psnr_low
    assert [image.index for image in foreign_among([low, low - 5.9, low - 6.1, float("nan")], health)] == [2, 3]


def test_foreign_pictures_are_told_by_reconstructing_them():
    model = Stripes()
    health = measure_health(model, model.images())
    assert find_foreign_images(Stripes(), model.images(), health) == []
    (foreign, *_) = found = find_foreign_images(Stripes(), 1 - model.images(), health)
    assert len(found) == NUM_IMAGES
    assert f"{foreign.psnr:.1f} dB" in foreign.describe("a.png")
