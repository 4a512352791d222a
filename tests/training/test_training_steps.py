"""The number of sampler steps is measured at the end of training and saved with the model."""

import json

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from helpers.models import micro_pipeline
from helpers.training import config_for

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.schedulers import SAMPLERS, Sampler
from fdae_diffusers.training import TrainingConfig, train
from fdae_diffusers.training.batches import load_images, make_loader, pick_unseen_images
from fdae_diffusers.training.distributed import make_accelerator
from fdae_diffusers.training.steps import (
    CANDIDATES,
    StepsMeasurement,
    StepsResult,
    _compare,
    measure_steps,
    scheduler_for,
)
from fdae_diffusers.utils.arguments import parse_config


def measurement(*psnr: float) -> StepsMeasurement:
    results = [StepsResult(steps, value, 1.0) for steps, value in zip(CANDIDATES, psnr, strict=False)]
    return StepsMeasurement(results, num_images=4, held_out=True)


@pytest.mark.parametrize(
    ("psnr", "best"),
    [((36.7, 37.9, 37.2), 2), ((30.0, 30.05, 30.09), 1), ((20, 25, 29, 29.3), 4), ((torch.nan, torch.nan), 1)],
    ids=str,
)
def test_fewest_steps_within_a_quarter_of_a_decibel_are_chosen(psnr, best):
    assert measurement(*psnr).best == best


def test_psnr_and_grain_are_what_they_say():
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    exact = _compare(images, images, 1)
    assert (exact.psnr, exact.grain) == (100, 0)
    assert _compare(images, images + 0.1, 1).psnr == pytest.approx(20, abs=1e-3)
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    assert _compare(images, blurred, 1).grain < -0.5
    assert _compare(blurred, images, 1).grain > 0.5


def test_one_step_is_the_denoised_noise_of_sigma_80(images):
    pipeline = micro_pipeline()
    pipeline.scheduler = scheduler_for("dpm-solver++", 1)
    codes, latents = pipeline.encode(images), torch.randn(5, 3, 16, 16)
    output = pipeline(codes=codes, latents=latents, num_inference_steps=1, output_type="pt").images
    noisy, sigma = latents * 80, torch.full((1,), 80.0)
    condition = pipeline.encoder.condition(codes)
    with torch.no_grad():
        network = pipeline.unet(
            pipeline.scheduler.precondition_inputs(noisy, sigma),
            pipeline.scheduler.precondition_noise(sigma),
            **condition,
        ).sample
    denoised = pipeline.scheduler.precondition_outputs(noisy, network, sigma)
    torch.testing.assert_close(output, ((denoised + 1) / 2).clamp(0, 1), atol=1e-3, rtol=0)


def test_measuring_compares_every_number_and_leaves_the_pipeline_as_it_was(images):
    pipeline = micro_pipeline()
    before, random_state = pipeline.scheduler, torch.get_rng_state()
    measured = measure_steps(pipeline, images * 2 - 1, "dpm-solver++", held_out=True, batch_size=2)
    assert [result.num_inference_steps for result in measured.results] == list(CANDIDATES)
    assert pipeline.scheduler is before
    assert torch.equal(torch.get_rng_state(), random_state)
    at_once = measure_steps(pipeline, images * 2 - 1, "dpm-solver++", held_out=True, candidates=(1, 4))
    for result, other in zip(at_once.results, (measured.results[0], measured.results[3]), strict=True):
        assert result.psnr == pytest.approx(other.psnr, abs=1e-2)


def test_chosen_steps_are_saved_recorded_and_used(tmp_path, capsys):
    train(config_for(tmp_path, num_inference_steps=None))
    record = json.loads((tmp_path / "training.json").read_text())
    assert [item["num_inference_steps"] for item in record["sampling"]] == list(CANDIDATES)
    assert record["sampling_held_out"] is True  # 40 of 480,000 images were trained on
    chosen = StepsMeasurement([StepsResult(**item) for item in record["sampling"]], 64, True).best
    assert record["num_inference_steps"] == chosen
    assert json.loads((tmp_path / "model_index.json").read_text())["num_inference_steps"] == chosen
    assert "64 images not trained on" in capsys.readouterr().out
    pipeline = FDAEPipeline.from_pretrained(tmp_path)
    steps: list[int] = []
    pipeline(torch.rand(1, 3, 16, 16), callback_on_step_end=lambda *args: steps.append(args[1]) or args[3])
    assert len(steps) == chosen


@pytest.mark.parametrize(("steps", "scheduler"), [(1, EDMEulerScheduler), (3, EDMDPMSolverMultistepScheduler)])
def test_a_given_number_of_steps_is_not_searched_but_saved(tmp_path, steps, scheduler):
    train(config_for(tmp_path, num_inference_steps=steps, max_train_steps=1))
    assert "sampling" not in json.loads((tmp_path / "training.json").read_text())
    pipeline = FDAEPipeline.from_pretrained(tmp_path)
    assert isinstance(pipeline.scheduler, scheduler)
    assert pipeline.config.num_inference_steps == steps


def test_a_sampler_from_outside_is_listed_and_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SAMPLERS, "mine", Sampler(lambda: EDMEulerScheduler(sigma_min=0.25), 5))
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, ["--help"])
    assert "mine" in capsys.readouterr().out
    train(config_for(tmp_path, scheduler="mine", num_inference_steps=3, max_train_steps=1))
    assert FDAEPipeline.from_pretrained(tmp_path).scheduler.config.sigma_min == 0.25


def as_set(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("max_train_samples", [40, None])
def test_unseen_images_are_those_that_training_has_not_read(tmp_path, max_train_samples):
    """Within the first epoch, and of a data set whose first epoch is over."""
    config = config_for(tmp_path, max_train_samples=max_train_samples, seed=3)
    accelerator = make_accelerator(config)
    images = load_images(config, 16, accelerator, config.seed)
    loader = accelerator.prepare(make_loader(config, images, accelerator, config.seed))
    seen = torch.cat([batch["pixel_values"] for batch, _ in zip(loader, range(4), strict=False)])
    assert len(seen) == 32
    unseen, held_out = pick_unseen_images(config, images, len(seen), 64, config.seed)
    assert held_out
    assert len(unseen) == (8 if max_train_samples else 64)
    assert not as_set(unseen) & as_set(seen)
    if max_train_samples:
        everything = as_set(torch.stack([item["pixel_values"] for item in images]))
        unseen, held_out = pick_unseen_images(config, images, 80, 64, config.seed)
        assert held_out
        assert not as_set(unseen) & everything


def test_without_other_images_those_of_the_training_are_taken(tmp_path, image_folder):
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "max_train_samples": None}
    config = config_for(tmp_path, **settings)
    images = load_images(config, 16, make_accelerator(config))
    picked, held_out = pick_unseen_images(config, images, 10, 64)
    assert (len(picked), held_out) == (10, False)


def test_images_of_another_split_are_unseen(tmp_path, image_folder):
    train_dir, test_dir = tmp_path / "split" / "train", tmp_path / "split" / "test"
    test_dir.mkdir(parents=True)
    image_folder.rename(train_dir)
    for i in range(3):
        (train_dir / f"{i}.png").rename(test_dir / f"{i}.png")
    settings = {"dataset_name": None, "train_data_dir": str(tmp_path / "split"), "max_train_samples": None}
    config = config_for(tmp_path, **settings, train_batch_size=2)
    images = load_images(config, 16, make_accelerator(config))
    assert len(images) == 7
    picked, held_out = pick_unseen_images(config, images, 70, 64)
    assert (len(picked), held_out) == (3, True)
    assert not as_set(picked) & as_set(torch.stack([item["pixel_values"] for item in images]))
    (test_dir / "2.png").write_bytes(b"bad")  # which must not cost the trained model
    assert pick_unseen_images(config, images, 70, 64)[1] is False
