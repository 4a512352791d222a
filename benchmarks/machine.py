#!/usr/bin/env python
"""What each part of a training step gets out of this machine, against its measured peak.

    python benchmarks/machine.py --preset tiny-32

Peak is the best that one large matrix product and one large 3x3 convolution reach. Operations are counted by torch
(`torch.utils.flop_counter`: matrix products, convolutions, attention; forward and backward), so a part that is bound
by memory shows as a small share. Time is CPU time, which other work on the machine changes little.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fdae_diffusers.memory import keep_freed_memory
from fdae_diffusers.presets import PRESETS, build_models


def main() -> None:
    """Measure peaks and parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="tiny-32")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    torch.manual_seed(0)
    unet, encoder = build_models(args.preset)
    size, batch_size = unet.config.sample_size, args.batch_size
    pixel_values = torch.rand(batch_size, 3, size, size) * 2 - 1
    codes = encoder.encode(pixel_values)
    content, mask_codes = codes.content.detach().requires_grad_(), codes.mask.detach().requires_grad_()
    masks = encoder.decode_masks(codes).detach().requires_grad_()
    condition_map = encoder.condition_map(content, masks).detach().requires_grad_()
    timestep = torch.zeros(batch_size)
    optimizer = torch.optim.RAdam([*unet.parameters(), *encoder.parameters()], foreach=True)

    matrix = torch.rand(2048, 2048)
    maps, kernel = torch.rand(16, 128, 32, 32), torch.rand(128, 128, 3, 3)
    parts: dict[str, Callable[[], torch.Tensor]] = {
        "encoder E": lambda: encoder.image_encoder(pixel_values),
        "mask decoder D_M": lambda: encoder.mask_decoder(mask_codes),
        "condition map": lambda: encoder.condition_map(content, masks),
        "U-Net": lambda: unet(pixel_values, timestep, condition_map).sample,
    }
    rows = [
        ("peak: matrix product", measure(lambda: matrix @ matrix, args.repeats)),
        ("peak: convolution", measure(lambda: F.conv2d(maps, kernel, padding=1), args.repeats)),
        *((name, measure(lambda part=part: part().sum().backward(), args.repeats)) for name, part in parts.items()),
        ("RAdam step", measure(optimizer.step, args.repeats)),
    ]
    peak = max(gflop / seconds for _, (gflop, seconds) in rows[:2])
    print(f"{args.preset}, batch {batch_size}, one thread; forward and backward, median of {args.repeats}")
    print("| part | GFLOP | ms | GFLOP/s | of the peak |\n| --- | --- | --- | --- | --- |")
    for name, (gflop, seconds) in rows:
        rate = gflop / seconds
        print(f"| {name} | {gflop:.2f} | {seconds * 1e3:.1f} | {rate:.1f} | {rate / peak:.0%} |")


def measure(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """GFLOP of a call, and its median seconds after one call to warm up."""
    with FlopCounterMode(display=False) as counter:
        function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return counter.get_total_flops() / 1e9, median(seconds)


if __name__ == "__main__":
    main()
