"""Several processes: gradients, batch statistics, losses and files are those of one process with all images."""

import errno
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.commands import launch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from helpers.models import MICRO_ENCODER, micro_pipeline
from helpers.paths import TRAINING
from helpers.processes import end, start_together
from helpers.training import assert_same_weights, config_for, train_here, weights
from safetensors.torch import load_file, save_file

from fdae_diffusers import FDAEObjective, FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import train
from fdae_diffusers.training.distributed import _check_engine, gathered_pipeline, make_accelerator
from fdae_diffusers.training.meter import LossMeter

# Without batch normalisation, which takes its own statistics in each process on a CPU.
TRANSFORMER = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "patch_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def objective_and_batch(gather: bool, micro_batch_size: int | None = None) -> tuple[FDAEObjective, list[torch.Tensor]]:
    """An objective with a large L_CD, and eight images with their noise levels and noise."""
    pipeline = micro_pipeline(backbone=TRANSFORMER)
    objective = FDAEObjective(
        pipeline.unet,
        pipeline.encoder,
        pipeline.scheduler,
        loss_weights={"content_decorrelation": 10.0},
        gather_batch_statistics=gather,
        micro_batch_size=micro_batch_size,
    )
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(shape, generator=generator) for shape in ((8, 3, 16, 16), (8, 1, 1, 1), (8, 3, 16, 16))]
    return objective, [draws[0].tanh(), draws[1].exp(), draws[2]]


def gradients(objective, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    loss.backward()
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


def gradients_of_two(folder):
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    for gather in (True, False):
        objective, batch = objective_and_batch(gather, micro_batch_size=3 if gather else None)
        objective.forward = objective.loss  # with given noise
        prepared = accelerator.prepare(objective)
        output = prepared(*(tensor[4 * rank : 4 * rank + 4] for tensor in batch))
        meter = LossMeter(accelerator)
        meter.add(output)
        means = meter.pop_means(step=1)
        save_file(gradients(objective, output.loss), folder / f"{gather}-{rank}.safetensors")
        (folder / f"{gather}-{rank}.json").write_text(json.dumps([output.loss.item(), means["loss"]]))


def test_two_processes_have_the_gradient_of_one_with_both_batches(tmp_path):
    assert end(start_together(gradients_of_two, tmp_path)) == [0, 0]
    references = {}
    for gather, parts in ((True, [slice(8)]), (False, [slice(4), slice(4, 8)])):  # without: L_CD of each half
        objective, batch = objective_and_batch(gather)
        loss = sum(objective.loss(*(tensor[part] for tensor in batch)).loss for part in parts) / len(parts)
        references[gather] = gradients(objective, loss)
        rounding = 1e-5 * max(gradient.abs().max() for gradient in references[gather].values())
        for rank in range(2):
            for name, gradient in load_file(tmp_path / f"{gather}-{rank}.safetensors").items():
                torch.testing.assert_close(gradient, references[gather][name], rtol=1e-4, atol=rounding)
        records = [json.loads((tmp_path / f"{gather}-{rank}.json").read_text()) for rank in range(2)]
        (loss_0, mean_0), (loss_1, mean_1) = records
        assert loss_0 != loss_1
        assert mean_0 == mean_1 == pytest.approx((loss_0 + loss_1) / 2, rel=1e-6)
        assert mean_0 == pytest.approx(loss.item(), rel=1e-4)
    differences = [(references[True][name] - references[False][name]).abs().max() for name in references[True]]
    assert max(differences) > 100 * rounding


def test_two_processes_write_one_run_and_resume_it_bit_for_bit(tmp_path):
    config = config_for(tmp_path / "whole", use_ema=True, checkpointing_steps=3, report_to="tensorboard")
    assert end(start_together(train_here, config)) == [0, 0]
    record = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert (record["num_processes"], record["images_per_step"]) == (2, 16)
    logs = [path for path in (tmp_path / "whole" / "logs").rglob("events.*") if path.parent.name == "fdae"]
    assert len(logs) == 1
    resumed = config_for(
        tmp_path / "resumed", use_ema=True, resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3")
    )
    assert end(start_together(train_here, resumed)) == [0, 0]
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")
    with pytest.raises(FDAEError, match="made by 2 processes, not 1"):
        train(resumed)


def train_sharded(config):
    """FSDP on CPUs: accelerate offers it on GPUs alone, so the processes pass for GPUs."""
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    train(config)


CONFIGURATIONS = TRAINING / "configs" / "accelerate"


LAUNCHERS = {  # the kind that starts all processes; on CPUs too, where any other starts one
    "cpu-2.yaml": "multi_gpu",
    "gpu.yaml": None,
    "multi-gpu.yaml": "multi_gpu",
    "fsdp.yaml": "use_fsdp",
}


def launcher_settings(name):
    """What `accelerate launch` makes of a configuration file."""
    arguments = launch.launch_command_parser().parse_args(["--config_file", str(CONFIGURATIONS / name), "script"])
    return launch._validate_launch_command(arguments)[0]


def test_accelerate_reads_its_configurations_and_starts_all_processes():
    assert {path.name for path in CONFIGURATIONS.iterdir()} == set(LAUNCHERS)
    for name, launcher in LAUNCHERS.items():
        settings = launcher_settings(name)
        chosen = [kind for kind in ("use_fsdp", "multi_gpu", "cpu") if getattr(settings, kind)]
        assert chosen == ([launcher] if launcher else [])
        assert (settings.num_processes > 1) == (launcher is not None)
        assert settings.use_cpu == (name == "cpu-2.yaml")


def test_sharded_training_gives_the_model_of_whole_copies_and_resumes(tmp_path):
    environment = prepare_multi_gpu_env(launcher_settings("fsdp.yaml"))
    environment = {name: value for name, value in environment.items() if "FSDP" in name}  # without bf16
    settings = {"use_ema": True, "ema_decay": 0.5, "max_train_steps": 2, "max_grad_norm": 1.0}
    copies = config_for(tmp_path / "copies", **settings)
    settings["gradient_checkpointing"] = "selective"  # which changes no result
    sharded = config_for(tmp_path / "sharded", **settings, checkpointing_steps=1)
    resumed = config_for(
        tmp_path / "resumed", **settings, resume_from_checkpoint=str(tmp_path / "sharded" / "checkpoint-1")
    )
    assert end(start_together(train_here, copies)) == [0, 0]
    assert end(start_together(train_sharded, sharded, **environment)) == [0, 0]
    assert json.loads((tmp_path / "sharded" / "training.json").read_text())["engine"] == "FSDP"
    assert end(start_together(train_sharded, resumed, **environment)) == [0, 0]
    assert_same_weights(tmp_path / "sharded", tmp_path / "resumed")
    for variant in (None, "ema"):
        one, other = (FDAEPipeline.from_pretrained(tmp_path / name, variant=variant) for name in ("copies", "sharded"))
        for component in ("unet", "encoder"):
            state = getattr(other, component).state_dict()
            for name, value in getattr(one, component).state_dict().items():
                torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", [TRANSFORMER, MICRO_ENCODER["backbone"]], ids=["vit", "resnet"])
def test_sharded_training_in_bfloat16_is_that_of_whole_copies(tmp_path, backbone):
    """Autocast, and weights and sums of gradients in float32, in both; a ResNet brings batch normalisation."""
    environment = prepare_multi_gpu_env(launcher_settings("fsdp.yaml"))
    environment = {name: value for name, value in environment.items() if "FSDP" in name}
    settings = {"mixed_precision": "bf16", "max_train_steps": 1, "encoder": {**MICRO_ENCODER, "backbone": backbone}}
    copies, sharded = (config_for(tmp_path / name, **settings) for name in ("copies", "sharded"))
    assert end(start_together(train_here, copies)) == [0, 0]
    assert end(start_together(train_sharded, sharded, **environment)) == [0, 0]
    one, other = weights(tmp_path / "copies"), weights(tmp_path / "sharded")
    assert {value.dtype for value in other.values()} <= {torch.float32, torch.int64}
    for name in one:  # a step of 1e-3 on gradients that were rounded in another order
        torch.testing.assert_close(other[name], one[name], rtol=1e-2, atol=1e-4)


def train_on_a_full_disk(config):
    """The main process cannot write; the other one waits for it."""

    def fail(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    if os.environ["RANK"] == "0":
        Accelerator.save_state = fail
    try:
        train(config)
    except FDAEError as error:
        (Path(config.output_dir) / f"{os.environ['RANK']}.txt").write_text(str(error))


def test_a_process_that_fails_alone_leaves_no_other_waiting(tmp_path):
    assert end(start_together(train_on_a_full_disk, config_for(tmp_path, checkpointing_steps=1))) == [0, 0]
    assert "No space left on device" in (tmp_path / "0.txt").read_text()
    assert "another process of this run has failed" in (tmp_path / "1.txt").read_text()


def train_and_count_repositories(config, refused):
    """Training that writes down which process creates the repository."""
    from fdae_diffusers.training import trainer

    rank, folder = os.environ["RANK"], Path(config.output_dir)

    def prepare_repository(name, *_):
        (folder / f"created-by-{rank}").write_text(name)
        if refused:
            raise FDAEError("no login")
        return f"someone/{name}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "prepare_repository", prepare_repository)
        try:
            train(config)
        except FDAEError as error:
            (folder / f"error-{rank}").write_text(str(error))


@pytest.mark.parametrize("refused", [False, True])
def test_one_process_creates_the_repository_and_its_error_stops_all(tmp_path, refused):
    settings = {"push_to_hub": True, "hub_dry_run_dir": str(tmp_path / "dry"), "max_train_steps": 1}
    config = config_for(tmp_path / "run", **settings)
    assert end(start_together(train_and_count_repositories, config, refused)) == [0, 0]
    assert [path.name for path in (tmp_path / "run").glob("created-by-*")] == ["created-by-0"]
    if refused:
        assert [(tmp_path / "run" / f"error-{rank}").read_text() for rank in range(2)] == ["no login"] * 2
    else:
        assert json.loads((tmp_path / "dry" / "training.json").read_text())["model_id"] == "someone/run"


def train_slowly(config):
    """Training that waits for its signal at the third step."""
    from fdae_diffusers.training.trainer import Trainer

    trainer = Trainer(config)
    train_step = trainer._train_step

    def wait_once(batches):
        train_step(batches)
        if trainer.step == 2:
            ready = trainer.output_dir / f"ready-{trainer.accelerator.process_index}"
            ready.write_text("")
            deadline = time.monotonic() + 60
            while not (trainer.output_dir / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)

    trainer._train_step = wait_once
    trainer.run()


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(tmp_path):
    processes = start_together(train_slowly, config_for(tmp_path, max_train_steps=50))
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"ready-{rank}").exists() for rank in range(2)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGTERM)
    (tmp_path / "go").write_text("")
    assert end(processes) == [143, 143]
    [checkpoint] = tmp_path.glob("checkpoint-*")
    assert (checkpoint / "random_states_1.pkl").exists()
    # They agree after 1, 2, 4, ... steps at the latest, and so at least once between the third step and the eighth.
    assert 3 <= int(checkpoint.name.removeprefix("checkpoint-")) < 8


def test_pipeline_shares_the_weights_in_training_and_leaves_random_numbers_alone(images):
    accelerator = Accelerator()
    pipeline = micro_pipeline()
    objective = accelerator.prepare(FDAEObjective(pipeline.unet, pipeline.encoder, pipeline.scheduler))
    before = torch.get_rng_state()
    gathered = gathered_pipeline(accelerator, objective)
    assert torch.equal(torch.get_rng_state(), before)
    assert gathered.unet.conv_out.weight.data_ptr() == pipeline.unet.conv_out.weight.data_ptr()
    assert [network.training for network in (objective, gathered.unet, gathered.encoder)] == [True, False, False]
    one, other = (
        p(images, num_inference_steps=2, output_type="pt", generator=torch.Generator().manual_seed(0)).images
        for p in (pipeline, gathered)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("engine", "mixed_precision", "message"),
    [("FSDP", "no", "use one process or DDP"), ("MULTI_GPU", "fp16", "use bf16 or no")],
)
def test_micro_batches_are_refused_where_their_gradients_would_be_wrong(tmp_path, engine, mixed_precision, message):
    accelerator = SimpleNamespace(
        distributed_type=DistributedType(engine),
        num_processes=1,
        mixed_precision=mixed_precision,
        device=torch.device("cuda"),
    )
    config = config_for(tmp_path, micro_batch_size=4)
    with pytest.raises(FDAEError, match=message):
        _check_engine(accelerator, config)
    accelerator.distributed_type, accelerator.mixed_precision = DistributedType.MULTI_GPU, "bf16"
    _check_engine(accelerator, config)


def test_what_accelerate_would_leave_out_silently_is_refused(tmp_path):
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.NO,
        num_processes=1,
        mixed_precision="fp16",
        device=torch.device("cpu"),
        log_with=[],  # what is installed of what was asked for
    )
    with pytest.raises(FDAEError, match="mixed_precision=fp16 needs a GPU"):
        _check_engine(accelerator, config_for(tmp_path))
    with pytest.raises(FDAEError, match="report_to=mlflow needs a package"):
        _check_engine(accelerator, config_for(tmp_path, report_to="mlflow"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "2 processes were started"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP was asked for"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "use DDP"),
    ],
)
def test_an_engine_that_would_silently_be_another_is_refused(tmp_path, monkeypatch, environment, message):
    Accelerator()  # one process: the state that the variables below contradict
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FDAEError, match=message):
        make_accelerator(config_for(tmp_path))
