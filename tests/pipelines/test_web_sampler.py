import json
import math
import shutil
import subprocess

import numpy as np
import pytest
from helpers.paths import ROOT

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install .[export]")

from fdae_diffusers.export.runtime import noise_levels, sample_steps

WEB = ROOT / "pipelines" / "web"
SAMPLER = {
    "num_inference_steps": 10,
    "init_noise_sigma": 80.0,
    "sigma_min": 0.02,
    "sigma_max": 80.0,
    "rho": 7.0,
}


@pytest.mark.parametrize("steps", [2, 10, 20])
@pytest.mark.parametrize(
    ("algorithm", "schedule", "final_sigma", "first_order_end_below", "clip"),
    [
        ("dpmsolver++", "exponential", 0.0, None, False),
        ("dpmsolver++", "karras", 0.02, 15, False),
        ("dpmsolver++", "karras", 0.02, 0, False),
        ("euler", "karras", 0.0, None, False),
        ("heun", "karras", 0.0, None, True),
    ],
)
def test_the_pages_sampler_is_that_of_python(algorithm, schedule, final_sigma, first_order_end_below, clip, steps):
    sampler = SAMPLER | {
        "algorithm": algorithm,
        "sigma_schedule": schedule,
        "final_sigma": final_sigma,
        "first_order_end_below": first_order_end_below,
        "clip_sample": clip,
    }
    x = 80 * np.random.default_rng(0).standard_normal(12)
    script = f"""
import {{ noiseLevels, precondition, sampleSteps }} from "{WEB}/page/sampler.js";
const sampler = {json.dumps(sampler)};
const network = async (x, cNoise) => x.map((value) => Math.tanh(0.5 * value + cNoise) + 0.1 * value);
let result;
const start = Float32Array.from({x.tolist()});
for await (result of sampleSteps(precondition(network, 0.5), start, noiseLevels(sampler, {steps}), sampler));
console.log(JSON.stringify([...result]));
"""
    given = json.loads(_node(script))
    *_, wanted = sample_steps(_denoise, x.astype(np.float32), noise_levels(sampler, steps), sampler)
    np.testing.assert_allclose(given, wanted, atol=1e-3 * np.abs(wanted).max())


def _denoise(x, sigma):
    variance = sigma**2 + 0.25
    scaled, c_noise = x / math.sqrt(variance), math.log(sigma) / 4
    return 0.25 / variance * x + 0.5 * sigma / math.sqrt(variance) * (np.tanh(0.5 * scaled + c_noise) + 0.1 * scaled)


def test_the_pages_noise_is_standard_normal_and_the_same_each_time():
    script = f"""
import {{ normalNoise }} from "{WEB}/page/sampler.js";
console.log(JSON.stringify([[...normalNoise(20000, 3)], [...normalNoise(5, 3)], [...normalNoise(5, 4)]]));
"""
    many, again, other = map(np.array, json.loads(_node(script)))
    assert abs(many.mean()) < 0.03
    assert many.std() == pytest.approx(1, abs=0.03)
    assert abs((many**3).mean()) < 0.1
    assert (many**4).mean() == pytest.approx(3, abs=0.3)
    np.testing.assert_array_equal(again, many[:5])
    assert (other != again).all()


def _node(script):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    run = subprocess.run(
        ["node", "--input-type=module", "-"], input=script, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_lock_file_names_no_registry():
    assert "resolved" not in (WEB / "package-lock.json").read_text()
    versions = json.loads((WEB / "package.json").read_text())
    assert all(version[0].isdigit() for version in (versions["dependencies"] | versions["devDependencies"]).values())
