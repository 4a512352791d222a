#!/usr/bin/env python
"""Quality of reconstructions over network calls, for each sampler, against the released one: Heun, 40 steps, 79 calls.

    python benchmarks/sampling.py --model model_cards/fdae-shapes3d-rendered-32 --output docs

All start from the same noise. PSNR is over all pixels of all images, against the source and against the 40-step Heun
sample. The literal version encodes the image and decodes its masks again at every call, as the released code does.
Writes `sampling_table.md` and `images/sampler_curve.png`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from matplotlib.figure import Figure

from fdae_diffusers import EDMHeunScheduler, FDAEPipeline
from fdae_diffusers.data import Shapes3DRenderer
from fdae_diffusers.hub.loading import load_pipeline

STEPS = {"Heun": (3, 4, 5, 6, 8, 10, 12, 16, 20, 40), "other": (5, 6, 8, 10, 12, 16, 20, 30, 40, 79)}
SAMPLERS = {
    "Heun": (EDMHeunScheduler, {}),
    "Euler": (EDMEulerScheduler, {}),
    **{
        f"DPM-Solver++ {order}, {schedule}": (
            EDMDPMSolverMultistepScheduler,
            {"solver_order": order, "sigma_schedule": schedule},
        )
        for order in (2, 3)
        for schedule in ("karras", "exponential")
    },
    "DPM-Solver++ 2, exponential, to 0.02": (
        EDMDPMSolverMultistepScheduler,
        {"solver_order": 2, "sigma_schedule": "exponential", "sigma_min": 0.02},
    ),
}


def main() -> None:
    """Measure every sampler at every number of steps, and write the tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="model_cards/fdae-shapes3d-rendered-32")
    parser.add_argument("--num_images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default="outputs/sampling", help="folder of the tables and the figure")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = heun = EDMHeunScheduler()
    size = pipe.unet.config.sample_size
    renderer = Shapes3DRenderer(size)
    pictures = renderer.render(np.random.default_rng(0).integers(0, 480_000, args.num_images))
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255  # (B, 3, H, W)
    latents = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))

    literal, reference = sample(pipe, images, latents, 40, literal=True)
    literal["psnr"] = psnr(reference, images)
    rows = []
    for name, (scheduler, arguments) in SAMPLERS.items():
        pipe.scheduler = scheduler.from_config(heun.config, **arguments)
        for steps in STEPS.get(name, STEPS["other"]):
            row, decoded = sample(pipe, images, latents, steps)
            row |= {"psnr": psnr(decoded, images), "psnr_to_reference": psnr(decoded, reference)}
            rows.append({"sampler": name, **row, "speedup": literal["cpu_seconds"] / row["cpu_seconds"]})
            print(rows[-1], flush=True)
    write(Path(args.output), literal, rows)


def sample(pipe: FDAEPipeline, images: torch.Tensor, latents: torch.Tensor, steps: int, literal: bool = False):
    """Reconstruct; return what it took and the images (B, 3, H, W) in [0, 1]."""

    def encode_again(pipe, step, timestep, tensors):
        codes = pipe.encode(images)
        pipe.decode_masks(codes)
        return tensors

    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    hook = pipe.unet.register_forward_hook(count)
    start = time.process_time()
    decoded = pipe(
        image=images,
        latents=latents,
        num_inference_steps=steps,
        output_type="pt",
        callback_on_step_end=encode_again if literal else None,
    ).images
    cpu_seconds = time.process_time() - start
    hook.remove()
    return {"steps": steps, "calls": calls, "cpu_seconds": cpu_seconds}, decoded


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """PSNR in dB of images in [0, 1], over all their pixels; 100 where they are the same."""
    error = (one - other).square().mean().clamp_min(1e-10)
    return -10 * error.log10().item()


def write(folder: Path, literal: dict, rows: list[dict]) -> None:
    """Write the measurements as a table and a figure."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = [
        "| sampler | steps | network calls | PSNR to source (dB) | PSNR to 40-step Heun (dB) | CPU s | times faster |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| literal Heun | 40 | {literal['calls']} | {literal['psnr']:.2f} | | {literal['cpu_seconds']:.2f} | 1 |",
    ]
    lines += [
        f"| {row['sampler']} | {row['steps']} | {row['calls']} | {row['psnr']:.2f} | {row['psnr_to_reference']:.2f} "
        f"| {row['cpu_seconds']:.2f} | {row['speedup']:.1f} |"
        for row in rows
    ]
    (folder / "sampling_table.md").write_text("\n".join(lines) + "\n")

    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2),
        ("psnr", "psnr_to_reference"),
        ("against the source", "against 40-step Heun"),
        strict=True,
    ):
        for name in SAMPLERS:
            curve = [row for row in rows if row["sampler"] == name and row[key] < 99]
            axes.plot([row["calls"] for row in curve], [row[key] for row in curve], marker=".", label=name)
        axes.set(xscale="log", xlabel="network calls", ylabel="PSNR (dB)", title=title)
        axes.set_xticks([5, 10, 20, 40, 79], labels=["5", "10", "20", "40", "79"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(folder / "images" / "sampler_curve.png", dpi=110)


if __name__ == "__main__":
    main()
