"""What a run does for its device: refusals before memory is taken, kernels, precision, checkpointing that compiles."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from helpers.models import MICRO_ENCODER, MICRO_UNET, micro_pipeline
from helpers.training import config_for

from fdae_diffusers import CMFNet, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.models.normalization import AutocastGroupNorm
from fdae_diffusers.training import device_fit, train
from fdae_diffusers.training.checkpoints import load_checkpoint, save_checkpoint
from fdae_diffusers.training.device_fit import activation_bytes, check_device, describe_run, training_bytes
from fdae_diffusers.utils.memory import enable_full_checkpointing

PAPER = {"preset": "shapes3d", "unet": {}, "encoder": {}}


def on(device, mixed_precision="no", num_processes=1, engine="NO"):
    """As much of an accelerator as says where a run takes place."""
    return SimpleNamespace(
        device=torch.device(device),
        mixed_precision=mixed_precision,
        num_processes=num_processes,
        distributed_type=DistributedType(engine),
    )


def test_large_networks_are_not_trained_on_a_cpu_by_accident(tmp_path):
    with pytest.raises(FDAEError, match=r"296 M parameters .* allow_slow_cpu"):
        train(config_for(tmp_path, **PAPER))
    check_device(config_for(tmp_path), on("cpu"))  # a small network is


def test_networks_that_cannot_fit_the_device_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(device_fit, "activation_bytes", lambda *_: 6 * 2**30)
    config = config_for(tmp_path, **PAPER)
    for gigabytes, fits in ((9, False), (10, True)):  # weights and moments are 3.3
        monkeypatch.setattr(device_fit, "device_memory", lambda _, size=gigabytes: size * 2**30)
        if fits:
            check_device(config, on("cuda"))
        else:
            with pytest.raises(FDAEError, match=r"9\.3 GiB, but cuda has 9\.0 GiB: .*tiny-64"):
                check_device(config, on("cuda"))
    assert training_bytes(config, on("cuda", "no", 4, "FSDP"), 400, 100) == 1200 + 400
    assert training_bytes(config_for(tmp_path, use_ema=True), on("cuda"), 400, 100) == 400 * 16 + 1600


def test_activations_are_counted_in_the_way_they_are_computed(tmp_path):
    """More images take more, half precision about half, and each way to save memory saves some."""
    state = torch.get_rng_state()
    counted = {
        name: activation_bytes(config_for(tmp_path, train_batch_size=16, **settings), on("cpu", precision))
        for name, precision, settings in (
            ("whole", "no", {}),
            ("bf16", "bf16", {}),
            ("micro", "no", {"micro_batch_size": 4}),
            ("selective", "no", {"gradient_checkpointing": "selective"}),
            ("full", "no", {"gradient_checkpointing": "full"}),
        )
    }
    assert torch.equal(torch.get_rng_state(), state)
    whole = counted.pop("whole")
    assert 0.4 < counted["bf16"] / whole < 0.65
    assert counted["full"] < counted["selective"] < 0.8 * whole
    assert counted["micro"] < 0.5 * whole
    objective = micro_pipeline()
    num_weights = sum(p.numel() for n in (objective.unet, objective.encoder) for p in n.parameters())
    assert whole > 20 * num_weights


def test_one_line_says_what_is_trained_on_what(tmp_path):
    config = config_for(tmp_path, gradient_accumulation_steps=2)
    line = describe_run(config, on("cpu", "bf16", 4, "MULTI_CPU"), 1234)
    for part in ("1,234 parameters", "cpu", "bfloat16", "4 processes (MULTI_CPU)", "64 images"):
        assert part in line


def test_group_norm_stays_in_half_precision_under_autocast():
    """CUDA's autocast would make it float32: twice the memory."""
    generator = torch.Generator().manual_seed(0)
    norm = AutocastGroupNorm(4, 16)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, 1.0, 0.3, generator=generator)
    x = 3 + torch.randn(2, 16, 8, 8, generator=generator)
    plain = torch.nn.GroupNorm(4, 16)
    plain.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain(x), rtol=2**-6, atol=2**-5)
    half.sum().backward()
    assert norm.weight.grad.dtype == torch.float32


def test_all_group_norms_of_both_networks_are_of_that_kind():
    for network in (FDAEUNet2DModel(**MICRO_UNET), CMFNet(**MICRO_ENCODER)):
        kinds = {type(module) for module in network.modules() if isinstance(module, torch.nn.GroupNorm)}
        assert kinds == {AutocastGroupNorm}


def test_full_checkpointing_is_compiled_whole():
    unet = micro_pipeline().unet.train()
    enable_full_checkpointing(unet)
    inputs = torch.randn(2, 3, 16, 16), torch.tensor([0.1, 0.2]), torch.randn(2, 4, 16, 16)
    compiled = torch.compile(unet, backend="eager", fullgraph=True)  # raises where it would have to split
    torch.testing.assert_close(compiled(*inputs).sample, unet(*inputs).sample)


def test_counts_of_steps_are_on_the_cpu_after_resuming(tmp_path, monkeypatch):
    """As in a new run: RAdam reads each of them several times in every step."""
    accelerator = Accelerator(cpu=True)
    parameter = torch.nn.Linear(2, 2)
    model, optimizer = accelerator.prepare(parameter, torch.optim.RAdam(parameter.parameters()))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = save_checkpoint(accelerator, config_for(tmp_path), 1)
    load_state = accelerator.load_state

    def load_to_device(folder):
        """As accelerate loads where several processes have a GPU each."""
        load_state(folder)
        for state in optimizer.state.values():
            state["step"] = state["step"].to("meta")  # a device that no value can be read from
            monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.ones(()))

    monkeypatch.setattr(accelerator, "load_state", load_to_device)
    load_checkpoint(accelerator, path)
    assert {state["step"].device.type for state in optimizer.state.values()} == {"cpu"}
