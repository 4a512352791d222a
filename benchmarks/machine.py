#!/usr/bin/env python
"""What each part and each operation of a training step gets out of this machine, against its measured peak.

    python benchmarks/machine.py --scale tiny

Peak is the best that one large matrix product and one large 3x3 convolution reach. Operations are counted by torch
(`torch.utils.flop_counter`: matrix products, convolutions, attention; forward and backward), so what waits for memory
shows as a small share. Time is CPU time on one thread, which other work on the machine changes little.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from training_step import SCALES

from fdae_diffusers import EDMHeunScheduler, FDAEObjective
from fdae_diffusers.models.presets import build_models
from fdae_diffusers.utils.memory import keep_freed_memory

# The one kind of attention that torch does not count by itself.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda gradient, q, k, v, *_, **__: sdpa_backward_flop_count(gradient, q, k, v)
    ),
}
# kind -> beginnings of names of torch's operations
OPERATIONS = {
    "convolutions": ("convolution",),
    "attention": ("_scaled_dot_product",),
    "linear layers": ("mm", "addmm", "bmm"),
    "normalisation, activation": ("native_group_norm", "native_batch_norm", "silu"),
    "dropout": ("bernoulli_", "native_dropout"),
}


def main() -> None:
    """Measure peaks, parts and operations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="tiny")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    torch.manual_seed(0)
    preset, unet_arguments, batch_size = SCALES[args.scale]
    unet, encoder = build_models(preset, unet_arguments)
    objective = FDAEObjective(unet, encoder, EDMHeunScheduler())
    pixel_values = torch.rand(batch_size, 3, *[unet.config.sample_size] * 2) * 2 - 1
    codes = encoder.encode(pixel_values)
    content, mask_codes = codes.content.detach().requires_grad_(), codes.mask.detach().requires_grad_()
    masks = encoder.decode_masks(codes).detach().requires_grad_()
    condition_map = encoder.condition_map(content, masks).detach().requires_grad_()
    timestep = torch.zeros(batch_size)
    optimizer = torch.optim.RAdam(objective.parameters(), foreach=True)

    matrix = torch.rand(2048, 2048)
    maps, kernel = torch.rand(16, 128, 32, 32), torch.rand(128, 128, 3, 3)
    parts: dict[str, Callable[[], torch.Tensor]] = {
        "encoder E": lambda: encoder.image_encoder(pixel_values),
        "mask decoder D_M": lambda: encoder.mask_decoder(mask_codes),
        "condition map": lambda: encoder.condition_map(content, masks),
        "U-Net": lambda: unet(pixel_values, timestep, condition_map).sample,
    }
    rows = [
        ("peak: matrix product", *measure(lambda: matrix @ matrix, args.repeats)),
        ("peak: convolution", *measure(lambda: F.conv2d(maps, kernel, padding=1), args.repeats)),
        *((name, *measure(lambda part=part: part().sum().backward(), args.repeats)) for name, part in parts.items()),
        *measure_operations(lambda: objective(pixel_values).loss.backward(), args.repeats),
        ("RAdam step", *measure(optimizer.step, args.repeats)),
    ]
    peak = max(gflop / seconds for _, gflop, seconds in rows[:2])
    print(f"{args.scale}, batch {batch_size}, one thread; forward and backward, median of {args.repeats}")
    print("| | GFLOP | ms | GFLOP/s | of the peak |\n| --- | --- | --- | --- | --- |")
    for name, gflop, seconds in rows:
        if not seconds:  # no such operation in these networks
            continue
        rate = gflop / seconds
        print(f"| {name} | {gflop:.2f} | {seconds * 1e3:.1f} | {rate:.1f} | {rate / peak:.0%} |")


def measure(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """GFLOP of a call, and its median seconds after one call to warm up."""
    gflop = sum(count_gflop(function).values())
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return gflop, median(seconds)


def measure_operations(function: Callable[[], object], repeats: int) -> list[tuple[str, float, float]]:
    """For each kind of operation its name, and GFLOP and median seconds in a call."""
    gflop = count_gflop(function)
    timers = []
    for _ in range(repeats):
        with Timer() as timer:
            function()
        timers.append(timer.seconds)
    return [(kind, gflop[kind], median(seconds[kind] for seconds in timers)) for kind in (*OPERATIONS, "other")]


def count_gflop(function: Callable[[], object]) -> Counter[str]:
    """GFLOP of each kind of operation in a call."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        function()
    gflop: Counter[str] = Counter()
    for operation, count in counter.get_flop_counts().get("Global", {}).items():
        gflop[kind_of(operation)] += count / 1e9
    return gflop


class Timer(TorchDispatchMode):
    """Adds up the CPU seconds of each kind of operation, forward and backward."""

    def __init__(self):
        super().__init__()
        self.seconds: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        start = time.process_time()
        result = operation(*args, **(kwargs or {}))
        self.seconds[kind_of(operation.overloadpacket)] += time.process_time() - start
        return result


def kind_of(operation: torch._ops.OpOverloadPacket) -> str:
    """The kind that an operation belongs to."""
    name = operation.__name__
    return next((kind for kind, beginnings in OPERATIONS.items() if name.startswith(beginnings)), "other")


if __name__ == "__main__":
    main()
