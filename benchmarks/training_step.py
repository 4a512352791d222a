#!/usr/bin/env python
"""Time and memory of a training step, against a literal version of the same computation.

    python benchmarks/training_step.py --scale small

Each variant runs in a process of its own, so that its peak memory is its own. CPU-seconds and the resident memory that
the steps add to the process's are printed as ratios to the literal version's; numbers above 1 are better. The part of
the CPU-seconds that goes into fetching memory from the system depends on what else the machine does, and is shown too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from statistics import median

import torch
from baseline import make_literal

from fdae_diffusers import EDMHeunScheduler, FDAEObjective
from fdae_diffusers.models.presets import build_models
from fdae_diffusers.utils.memory import enable_full_checkpointing, enable_selective_checkpointing, keep_freed_memory

# name -> (preset, U-Net arguments, batch size)
SCALES = {
    "tiny": ("tiny-32", {}, 16),
    # The paper's CMFNet with a U-Net of a sixth of the width.
    "small": ("shapes3d", {"block_out_channels": [32, 64, 96, 128], "attention_head_dim": 32}, 32),
    "paper": ("shapes3d", {}, 4),
}
VARIANTS = {
    "literal": "attention by its matrix; upsample, then convolve; a map per concept; RAdam one tensor at a time",
    "literal_fused": "the literal version with torch's fused attention",
    "package": "as training runs it",
    "default_memory": "the same without telling the C library to keep freed memory",
    "channels_last": "the same in channels-last memory format",
    "micro": "the same with --micro_batch_size of a quarter of the batch",
    "selective": "the same with --gradient_checkpointing selective",
    "full": "the same with --gradient_checkpointing full",
    "bf16": "the same under bfloat16 autocast",
    "bf16_micro": "bf16 and micro",
    "bf16_selective": "bf16 and selective",
    "compile": "the same through torch.compile",
    "bf16_compile": "bf16 through torch.compile",
    "tf32": "the same with convolutions and matrix products in TF32, on a GPU; all other float32 is exact",
}


def main() -> None:
    """Run the variants and print their rows, or one of them in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="tiny")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["literal", "package"])
    parser.add_argument("--batch_size", type=int, help="instead of the scale's")
    parser.add_argument("--warmup", type=int, default=1, help="steps before those that are timed")
    parser.add_argument("--steps", type=int, default=3, help="steps timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", help="cuda measures on a GPU, with synchronisation")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(measure(args)))
        return

    batch_size = args.batch_size or SCALES[args.scale][2]
    print(f"{args.scale}: batch {batch_size}, {args.threads} threads, median of {args.steps} steps")
    print(
        f"{'variant':<15} {'wall s':>7} {'CPU s':>7} {'system':>7} {'GB':>5} | ratio {'wall':>5} {'CPU':>5} {'GB':>5}"
    )
    baseline = None
    for variant in dict.fromkeys(["literal", *args.variants]):
        output = subprocess.run([sys.executable, *sys.argv, "--variant", variant], stdout=subprocess.PIPE, check=True)
        result = json.loads(output.stdout.splitlines()[-1])
        baseline = baseline or result
        ratios = [baseline[key] / result[key] for key in ("wall", "cpu", "memory")]
        print(
            f"{variant:<15} {result['wall']:7.3f} {result['cpu']:7.3f} {result['system']:7.3f} "
            f"{result['memory'] / 1e9:5.2f} |       {ratios[0]:5.2f} {ratios[1]:5.2f} {ratios[2]:5.2f}   "
            f"{VARIANTS[variant]}",
            flush=True,
        )


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Median wall and CPU seconds of a step, CPU seconds inside the system, and peak memory in bytes."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    preset, unet_arguments, batch_size = SCALES[args.scale]
    batch_size = args.batch_size or batch_size
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = args.variant == "tf32"
    torch.set_float32_matmul_precision("high" if args.variant == "tf32" else "highest")
    unet, encoder = build_models(preset, unet_arguments)
    before = peak_memory(args.device)
    literal = args.variant.startswith("literal")
    if literal:
        make_literal(unet, encoder, fused_attention=args.variant == "literal_fused")
    if not literal and args.variant != "default_memory" and args.device == "cpu":
        keep_freed_memory()
    for network in (unet, encoder):
        if args.variant.endswith("selective"):
            enable_selective_checkpointing(network)
        elif args.variant == "full":
            enable_full_checkpointing(network)
    micro_batch_size = batch_size // 4 if args.variant.endswith("micro") else None
    objective = FDAEObjective(unet, encoder, EDMHeunScheduler(), micro_batch_size=micro_batch_size).to(args.device)
    pixel_values = torch.rand(batch_size, 3, *[unet.config.sample_size] * 2, device=args.device) * 2 - 1
    if args.variant == "channels_last":
        objective, pixel_values = (x.to(memory_format=torch.channels_last) for x in (objective, pixel_values))
    if args.variant.endswith("compile"):
        objective.unet.compile()
        objective.encoder.compile()
    optimizer = torch.optim.RAdam(objective.parameters(), lr=1e-4, foreach=not literal)

    def step() -> None:
        with torch.autocast(args.device, torch.bfloat16, enabled=args.variant.startswith("bf16")):
            loss = objective(pixel_values).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if args.device != "cpu":
            torch.accelerator.synchronize()

    times = []
    for _ in range(args.warmup + args.steps):
        start = clocks()
        step()
        times.append([after - before for before, after in zip(start, clocks(), strict=True)])
    wall, cpu, system = map(median, zip(*times[args.warmup :], strict=True))
    return {"wall": wall, "cpu": cpu, "system": system, "memory": peak_memory(args.device) - before}


def clocks() -> tuple[float, float, float]:
    """Seconds so far: of the wall clock, of this process's CPU time, of the part of it inside the system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_stime


def peak_memory(device: str) -> int:
    """Most bytes held so far: resident on the CPU, allocated on an accelerator."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.accelerator.max_memory_allocated()


if __name__ == "__main__":
    main()
