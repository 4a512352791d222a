"""The package on a simulated accelerator: no operation mixes devices, and nothing in a hot loop waits or blocks.

Each test runs in a process of its own; see tests/helpers/simulated_accelerator.py.
"""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from accelerate import Accelerator
from helpers.models import micro_pipeline
from helpers.processes import end, start
from helpers.simulated_accelerator import (
    BLOCKING,
    COPY,
    TO_HOST,
    WAIT,
    DeviceMismatchError,
    SimulatedAccelerator,
    as_accelerate_device,
)
from helpers.training import config_for

from fdae_diffusers import EDMHeunScheduler, FDAECodes
from fdae_diffusers.basis import CodeBasis
from fdae_diffusers.data import ImageDataset, rendered_shapes3d
from fdae_diffusers.evaluation.encode import encode_dataset
from fdae_diffusers.schedulers import SAMPLERS
from fdae_diffusers.training.checkpoints import save_checkpoint
from fdae_diffusers.training.faults import check_weights
from fdae_diffusers.training.trainer import Trainer
from fdae_diffusers.visualization.samples import make_figures

pytestmark = [pytest.mark.simulated, pytest.mark.processes]


def in_its_own_process(function, *arguments):
    assert end([start(function, *arguments)]) == [0]


def pictures():
    random = np.random.default_rng(0)
    return [PIL.Image.fromarray(random.integers(0, 256, (20, 18, 3), dtype=np.uint8)) for _ in range(2)]


def on_gpu(gpu, dtype=torch.float32):
    pipeline = micro_pipeline().to("gpu", dtype)
    gpu.forget()
    return pipeline


def raises_what_a_device_raises():
    with SimulatedAccelerator() as gpu:
        x = torch.ones(3, device="gpu")
        assert (x.device.type, x.sum().item()) == ("gpu", 3)
        assert gpu.count(WAIT) == 1
        with pytest.raises(DeviceMismatchError):
            x + torch.ones(3)
        with pytest.raises(DeviceMismatchError):
            torch.randn(3, device="gpu", generator=torch.Generator())
        gpu.forget()
        torch.ones(3).to("gpu", non_blocking=True)
        torch.ones(3).to("gpu")
        x.cpu()
        assert (gpu.count(COPY), gpu.count(BLOCKING), gpu.count(TO_HOST)) == (1, 1, 1)
        gpu.forget()
        x[x > 0]
        assert gpu.count(WAIT) == 1


def test_the_simulation_raises_and_records_what_it_should():
    in_its_own_process(raises_what_a_device_raises)


def sample(dtype):
    """Every sampler, forth and back; what a call transfers or waits for does not grow with its steps."""
    with SimulatedAccelerator() as gpu:
        pipeline = on_gpu(gpu, dtype)
        codes = pipeline.encode(pictures())
        samplers = {name: sampler.make() for name, sampler in SAMPLERS.items()}
        samplers["churn"] = EDMHeunScheduler(s_churn=40)
        for name, sampler in samplers.items():
            pipeline.scheduler = sampler
            events = []
            for steps in (3, 6):
                gpu.forget()
                image = pipeline(codes=codes, num_inference_steps=steps, output_type="pt").images
                events.append(gpu.count())
                assert bool(image.isfinite().all()), name
            assert events[0] == events[1], (name, gpu.events)
            if name != "churn":
                pipeline.invert(pictures(), num_inference_steps=3)
        assert image.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_all_samplers_run_without_waiting_at_each_step(dtype):
    in_its_own_process(sample, dtype)


def use_every_method():
    """Inputs on the CPU, on the device and mixed go through all methods, and results can be used together."""
    with SimulatedAccelerator() as gpu:
        pipeline = on_gpu(gpu)
        images, steps = pictures(), {"num_inference_steps": 2}
        seeded = torch.Generator().manual_seed(0)  # on the CPU, as users give them
        codes = pipeline.encode(images)
        assert codes.content.device.type == "gpu"
        pipeline(images, generator=seeded, **steps)
        pipeline(images, generator=[torch.Generator().manual_seed(i) for i in range(2)], **steps)
        pipeline(codes=codes.to("cpu"), latents=torch.randn(2, 3, 16, 16), **steps)
        pipeline([images[0], torch.rand(3, 16, 16, device="gpu")], **steps)
        pipeline.decode_masks(codes.to("cpu"))
        pipeline.swap(images, images[:1], content=[0], keep_noise=True, **steps)
        pipeline.swap_grid(images, output_type="np", **steps)
        codes.swap(codes.to("cpu"), content=[0])
        assert len(FDAECodes.cat([codes, codes.to("cpu")])) == 4
        basis = CodeBasis.fit(pipeline.encode(torch.rand(12, 3, 16, 16)), 2, 2)
        pipeline(codes=basis.traverse(codes[0], "content", 0), **steps)
        make_figures(pipeline, images, 2, swap_grid=True)
        dataset = ImageDataset(rendered_shapes3d(16, rows=range(6)), 16)
        gpu.forget()
        encoded = encode_dataset(pipeline.encoder, dataset, 3, progress=False)
        assert encoded.content.device.type == "cpu"
        assert gpu.count() <= 2 * 4  # a batch there, two kinds of codes back, and one for nothing in particular


def test_every_method_of_the_pipeline_figures_and_evaluation_run_there():
    in_its_own_process(use_every_method)


def train_some_steps(folder, settings):
    """Steps of training copy a batch each without waiting for it, and nothing else; reading the losses waits once."""
    with SimulatedAccelerator() as gpu, as_accelerate_device():
        config = config_for(folder, max_train_steps=20, **settings)
        trainer = Trainer(config)
        assert trainer.accelerator.device.type == "gpu"
        assert_quiet_steps(gpu, trainer)
        trainer.losses.pop_means(step=1)
        assert gpu.count(WAIT) == 1, gpu.events
        gpu.forget()
        check_weights(trainer.accelerator, trainer.objective, step=1)
        assert gpu.count(WAIT) == 1, gpu.events
        if trainer.average is not None:
            with trainer.average.applied():
                pass
        trainer._save_samples()


def assert_quiet_steps(gpu, trainer):
    batches = trainer._batches(0)
    trainer._train_step(batches)
    gpu.forget()
    for _ in range(2):
        trainer._train_step(batches)
    assert gpu.count() == gpu.count(COPY) == 2 * trainer.config.gradient_accumulation_steps, gpu.events
    gpu.forget()


TRAININGS = {
    "plain": {},
    "ema, clipping, accumulation": {"use_ema": True, "max_grad_norm": 1.0, "gradient_accumulation_steps": 2},
    "micro-batches, cached images": {"micro_batch_size": 4, "cache_images": True},
    "recomputed, bf16": {"gradient_checkpointing": "full", "mixed_precision": "bf16"},
}


@pytest.mark.parametrize("settings", TRAININGS.values(), ids=TRAININGS.keys())
def test_training_steps_never_wait_for_the_device(tmp_path, settings):
    in_its_own_process(train_some_steps, tmp_path, settings)


def resume_as_several_processes_do(folder):
    with SimulatedAccelerator() as gpu, as_accelerate_device():

        def load_to_device(accelerator, folder):
            """As accelerate loads an optimizer where there are several GPUs; weights are left as they are."""
            [optimizer] = accelerator._optimizers
            optimizer.load_state_dict(torch.load(Path(folder) / "optimizer.bin"))
            for state in optimizer.state.values():
                state["step"] = state["step"].to("gpu")

        Accelerator.load_state = load_to_device
        resumed = Trainer(config_for(folder, max_train_steps=20, resume_from_checkpoint="latest"))
        assert resumed.step == 1
        assert_quiet_steps(gpu, resumed)


def test_a_resumed_run_does_not_wait_for_the_device_either(tmp_path):
    trainer = Trainer(config_for(tmp_path, max_train_steps=20))  # on the CPU: simulated tensors cannot be saved
    trainer._train_step(trainer._batches(0))
    save_checkpoint(trainer.accelerator, trainer.config, 1)
    in_its_own_process(resume_as_several_processes_do, tmp_path)
