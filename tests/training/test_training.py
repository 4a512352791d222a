import json

import PIL.Image
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import EDMDPMSolverMultistepScheduler
from helpers.training import assert_same_weights, config_for, weights
from safetensors.torch import load_file

from fdae_diffusers import CMFNet, FDAEObjectiveOutput, FDAEPipeline, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import train
from fdae_diffusers.training.checkpoints import find_checkpoint, list_checkpoints
from fdae_diffusers.training.distributed import make_accelerator
from fdae_diffusers.training.meter import LossMeter


def test_training_leaves_a_pipeline_figures_logs_and_checkpoints(tmp_path):
    output_dir = train(
        config_for(tmp_path / "run", report_to="tensorboard", checkpointing_steps=2, validation_steps=3)
    )
    pipeline = FDAEPipeline.from_pretrained(output_dir)
    assert pipeline.encoder.config.num_concepts == 3
    assert isinstance(pipeline.scheduler, EDMDPMSolverMultistepScheduler)
    assert pipeline.scheduler.config.sigma_schedule == "exponential"
    for figure in ("masks", "reconstructions", "swap_grid"):
        PIL.Image.open(output_dir / f"{figure}.png").verify()
    assert (output_dir / "samples" / "step-000003" / "masks.png").exists()
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert list((output_dir / "logs").rglob("events.*"))
    card = (output_dir / "README.md").read_text()
    assert "not the real Shapes3D" in card
    assert "](masks.png)" in card
    index = json.loads((output_dir / "model_index.json").read_text())
    assert set(index) >= {"unet", "encoder", "scheduler"}


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(config_for(tmp_path / name, seed=seed))
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")


# 40 images in batches of 8 are 5 batches an epoch: step 3 stops within the first epoch, step 7 within the second.
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stop", [3, 7])
def test_resume_equals_uninterrupted_run(tmp_path, stop, accumulation):
    settings = {"gradient_accumulation_steps": accumulation, "lr_warmup_steps": 4, "max_train_steps": 9}
    train(config_for(tmp_path / "whole", **settings, checkpointing_steps=stop))
    settings["resume_from_checkpoint"] = str(tmp_path / "whole" / f"checkpoint-{stop}")
    train(config_for(tmp_path / "resumed", **settings))
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    output_dir = train(config_for(tmp_path / "run", checkpointing_steps=2, checkpoints_total_limit=2))
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-4", "checkpoint-6"]
    latest = find_checkpoint(config_for(output_dir, resume_from_checkpoint="latest"))
    assert latest.name == "checkpoint-6"


def test_unfinished_checkpoints_are_not_resumed_from(tmp_path):
    output_dir = train(config_for(tmp_path / "run", checkpointing_steps=3))
    (output_dir / "checkpoint-20.unfinished").mkdir()
    assert find_checkpoint(config_for(output_dir, resume_from_checkpoint="latest")).name == "checkpoint-6"


def test_new_run_does_not_mix_with_the_checkpoints_of_another(tmp_path):
    output_dir = train(config_for(tmp_path / "run", checkpointing_steps=3))
    with pytest.raises(FDAEError, match="checkpoints of another run"):
        train(config_for(output_dir, seed=5))
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-3", "checkpoint-6"]


def test_later_checkpoints_are_neither_deleted_nor_mixed_with(tmp_path):
    output_dir = train(config_for(tmp_path / "run", checkpointing_steps=3))
    for name in ("checkpoint-3", str(output_dir / "checkpoint-3")):
        with pytest.raises(FDAEError, match="checkpoints after checkpoint-3, up to checkpoint-6: delete them, or"):
            train(config_for(output_dir, resume_from_checkpoint=name, checkpoints_total_limit=1))
    assert [path.name for path in list_checkpoints(output_dir)] == ["checkpoint-3", "checkpoint-6"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_batch_size": 4}, "train_batch_size=8"),
        ({"num_concepts": 4}, "encoder="),
        ({"seed": 1}, "seed=0"),
        ({"max_train_steps": 3}, "past max_train_steps=3"),
    ],
)
def test_resuming_with_other_settings_is_refused(tmp_path, changes, message):
    output_dir = train(config_for(tmp_path / "run", checkpointing_steps=6))
    with pytest.raises(FDAEError, match=message):
        train(config_for(output_dir, resume_from_checkpoint="latest", **changes))


def test_validation_and_workers_leave_training_unchanged(tmp_path):
    train(config_for(tmp_path / "plain"))
    train(config_for(tmp_path / "validated", validation_steps=1, dataloader_num_workers=1))
    assert_same_weights(tmp_path / "plain", tmp_path / "validated")


def test_bf16_training_stays_close_to_float32(tmp_path):
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state()  # accelerate keeps one precision per process
        train(config_for(tmp_path / precision, mixed_precision=precision, logging_steps=1, report_to="tensorboard"))
    AcceleratorState._reset_state()
    one, other = weights(tmp_path / "no"), weights(tmp_path / "bf16")
    assert all(value.dtype != torch.bfloat16 for value in other.values())
    for name in one:
        torch.testing.assert_close(one[name].float(), other[name].float(), atol=0.05, rtol=0.05)


def test_warm_up_schedule_and_clipping_take_effect(tmp_path):
    train(config_for(tmp_path / "plain"))
    for name, settings in {
        "warm": {"lr_warmup_steps": 100},
        "clipped": {"max_grad_norm": 1e-6},
        "cosine": {"lr_scheduler": "cosine"},
    }.items():
        train(config_for(tmp_path / name, **settings))
        with pytest.raises(AssertionError):
            assert_same_weights(tmp_path / "plain", tmp_path / name)


@pytest.mark.parametrize(
    "saving",
    [{"gradient_checkpointing": "selective"}, {"gradient_checkpointing": "full"}, {"micro_batch_size": 3}],
    ids=str,
)
def test_saving_memory_gives_the_same_weights_but_for_rounding(tmp_path, saving):
    train(config_for(tmp_path / "plain"))
    train(config_for(tmp_path / "saving", **saving))
    torch.testing.assert_close(weights(tmp_path / "plain"), weights(tmp_path / "saving"), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own look at the condition map
def test_compiled_networks_keep_their_names_and_learn_the_same(tmp_path, monkeypatch):
    compiled = []

    def compile_without_code_generation(module):
        compiled.append(type(module).__name__)
        torch.nn.Module.compile(module, backend="eager")

    train(config_for(tmp_path / "plain"))
    for network in (FDAEUNet2DModel, CMFNet):
        monkeypatch.setattr(network, "compile", compile_without_code_generation)
    train(config_for(tmp_path / "compiled", torch_compile=True, checkpointing_steps=3))
    assert compiled == ["FDAEUNet2DModel", "CMFNet"]
    names = load_file(tmp_path / "compiled" / "checkpoint-3" / "model.safetensors").keys()
    assert not any("_orig_mod" in name for name in names)
    one, other = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)
    # What decides nothing but the speed may change on the way.
    checkpoint = str(tmp_path / "compiled" / "checkpoint-3")
    train(config_for(tmp_path / "resumed", resume_from_checkpoint=checkpoint))


def test_tf32_is_a_choice(tmp_path):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for enable, precision in ((False, "highest"), (True, "high")):
        make_accelerator(config_for(tmp_path, enable_tf32=enable))
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cudnn.allow_tf32 == enable  # convolutions and matrix products alike
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_logged_losses_are_means_over_the_interval():
    meter = LossMeter(Accelerator())
    for value in (1.0, 2.0, 6.0):
        terms = {"reconstruction": torch.tensor(2 * value), "other": torch.tensor(3 * value)}
        meter.add(FDAEObjectiveOutput(torch.tensor(value), terms))
    assert meter.pop_means(step=3) == {"loss": 3, "loss/reconstruction": 6, "loss/other": 9}
    meter.add(FDAEObjectiveOutput(torch.tensor(7.0), {"other": torch.tensor(1.0)}))
    assert meter.pop_means(step=4) == {"loss": 7, "loss/other": 1}


def test_losses_in_half_precision_are_summed_in_float32():
    meter = LossMeter(Accelerator())
    for _ in range(600):  # in bfloat16, a sum of ones ends at 256
        meter.add(FDAEObjectiveOutput(torch.ones((), dtype=torch.bfloat16), {}))
    assert meter.pop_means(step=1) == {"loss": 1}


def test_output_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FDAEError, match="cannot write to output_dir"):
        train(config_for(tmp_path / "file"))


@pytest.mark.parametrize("name", ["latest", "checkpoint-5", "weights"])
def test_absent_checkpoints_are_refused(tmp_path, name):
    with pytest.raises(FDAEError, match="checkpoint"):
        train(config_for(tmp_path, resume_from_checkpoint=name))


def test_training_on_a_folder_of_images(tmp_path, image_folder):
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "max_train_steps": 2}
    output_dir = train(config_for(tmp_path / "run", **settings))
    assert (output_dir / "model_index.json").exists()


def test_corrupt_image_is_named_or_skipped(tmp_path, image_folder):
    (image_folder / "3.png").write_bytes((image_folder / "3.png").read_bytes()[:60])
    settings = {"dataset_name": None, "train_data_dir": str(image_folder), "max_train_steps": 3}
    with pytest.raises(FDAEError, match=r"3\.png"):
        train(config_for(tmp_path / "raise", **settings))
    output_dir = train(config_for(tmp_path / "skip", **settings, on_bad_image="skip"))
    assert (output_dir / "model_index.json").exists()


def test_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(FDAEError, match="40 images, fewer than a batch"):
        train(config_for(tmp_path, train_batch_size=64))


def test_a_loss_that_is_no_number_stops_before_the_next_checkpoint(tmp_path):
    with pytest.raises(FDAEError, match="no longer a number at step"):
        train(config_for(tmp_path, learning_rate=1e20, max_train_steps=30, checkpointing_steps=1))
    for checkpoint in list_checkpoints(tmp_path):
        state = load_file(checkpoint / "model.safetensors")
        assert all(torch.isfinite(value.float()).all() for value in state.values()), checkpoint


def test_single_concept_baseline_trains(tmp_path):
    output_dir = train(config_for(tmp_path, num_concepts=1))
    assert FDAEPipeline.from_pretrained(output_dir).encoder.config.num_concepts == 1
    assert not (output_dir / "swap_grid.png").exists()
