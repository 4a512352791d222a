import platform
import subprocess
import sys

import pytest
import torch
from helpers.models import MICRO_ENCODER, MICRO_UNET
from torch.utils._python_dispatch import TorchDispatchMode

from fdae_diffusers import CMFNet, FDAEObjective, FDAEUNet2DModel
from fdae_diffusers.schedulers import default_scheduler
from fdae_diffusers.utils.memory import enable_full_checkpointing, enable_selective_checkpointing


class Counter(TorchDispatchMode):
    """Counts the calls of each operation."""

    def __init__(self):
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        self.calls[name] = self.calls.get(name, 0) + 1
        return operation(*args, **(kwargs or {}))


def calls_and_bytes(network, *inputs):
    """Calls of each operation in a training step, and bytes held for its backward pass."""
    held = {}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with Counter() as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(*inputs)
        output[0].square().sum().backward()
    return counter.calls, sum(held.values())


@pytest.mark.parametrize("name", ["unet", "mask decoder"])
def test_selective_checkpointing_holds_less_and_repeats_no_convolution(name):
    def step(enable):
        torch.manual_seed(0)
        if name == "unet":
            network, inputs = FDAEUNet2DModel(**MICRO_UNET), (torch.rand(2, 3, 16, 16), torch.zeros(2))
            inputs = (*inputs, torch.rand(2, network.config.condition_channels, 16, 16))
            forward = lambda *args: network(*args, return_dict=False)  # noqa: E731
        else:
            network, inputs = CMFNet(**MICRO_ENCODER), (torch.rand(2, 3, 16, 16),)
            forward = lambda *args: (network(*args).condition_map,)  # noqa: E731
        enable(network)
        return calls_and_bytes(forward, *inputs)

    plain, plain_bytes = step(lambda network: None)
    selective, selective_bytes = step(enable_selective_checkpointing)
    full, _ = step(enable_full_checkpointing)
    concepts = 1 if name == "unet" else MICRO_ENCODER["num_concepts"]  # which D_M then decodes one by one
    assert plain["convolution"] <= selective["convolution"] <= plain["convolution"] * concepts
    assert full["convolution"] > selective["convolution"]
    assert selective["native_group_norm"] > plain["native_group_norm"]
    assert selective_bytes < plain_bytes


@pytest.mark.parametrize("enabled", [False, True])
def test_selective_checkpointing_gives_the_same_gradients_under_autocast(enabled):
    gradients = []
    for enable in (lambda network: None, enable_selective_checkpointing):
        torch.manual_seed(0)
        objective = FDAEObjective(FDAEUNet2DModel(**MICRO_UNET), CMFNet(**MICRO_ENCODER), default_scheduler())
        for network in (objective.unet, objective.encoder):
            enable(network)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = objective(torch.rand(2, 3, 16, 16)).loss
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in objective.named_parameters()})
    tolerance = 1e-2 if enabled else 1e-5  # D_M decodes its concepts one by one, which rounds differently
    torch.testing.assert_close(*gradients, atol=tolerance, rtol=tolerance)


CHURN = """
import resource, sys
import torch
from fdae_diffusers.utils.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def churn(times):
    for _ in range(times):
        torch.ones(16, 1024, 1024)
churn(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_kept_memory_is_not_fetched_again_from_the_system():
    def page_faults(how):
        output = subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True)
        return int(output.stdout)

    assert page_faults("keep") < page_faults("return") / 10
