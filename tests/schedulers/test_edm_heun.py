import json
import math

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, configuration_utils

from fdae_diffusers.schedulers import EDMHeunScheduler

SHAPE = (2, 3, 4, 4)


def network(model_input, timestep):
    """A smooth stand-in for the U-Net, in the precision of its input."""
    mixed = model_input + 0.3 * model_input.roll(1, dims=-1)
    return torch.tanh(1.5 * mixed - 0.4 * timestep.to(model_input.dtype))


def sample_with(scheduler, model, noise, num_inference_steps=None, generator=None, **kwargs):
    scheduler.set_timesteps(num_inference_steps, **kwargs)
    return run_loop(scheduler, model, noise * scheduler.init_noise_sigma, generator)


def run_loop(scheduler, model, sample, generator=None, begin=0):
    for timestep in scheduler.timesteps[begin:]:
        output = model(scheduler.scale_model_input(sample, timestep), timestep)
        sample = scheduler.step(output, timestep, sample, generator=generator).prev_sample
    return sample


def karras_sigmas(n, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    i = np.arange(n)
    ramp = sigma_max ** (1 / rho) + i / max(n - 1, 1) * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))
    return [*ramp**rho, 0.0]


def algorithm_2(model, noise, sigmas, s_churn, s_tmin, s_tmax, s_noise, clip, generator):
    """Algorithm 2 of Karras et al. 2022, line by line in float64; algorithm 1 for s_churn = 0."""
    n = len(sigmas) - 1

    def denoise(x, sigma):
        c_skip = 0.25 / (sigma**2 + 0.25)
        c_out = sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
        c_in = 1 / math.sqrt(sigma**2 + 0.25)
        c_noise = torch.tensor(math.log(sigma) / 4, dtype=torch.float64)
        denoised = c_skip * x + c_out * model(c_in * x, c_noise)
        return denoised.clamp(-1, 1) if clip else denoised

    x = noise.double() * sigmas[0]
    for i in range(n):
        gamma = min(s_churn / n, math.sqrt(2) - 1) if s_tmin <= sigmas[i] <= s_tmax else 0.0
        sigma_hat = sigmas[i] + gamma * sigmas[i]
        if gamma > 0:
            eps = s_noise * torch.randn(x.shape, generator=generator).double()
            x = x + math.sqrt(sigma_hat**2 - sigmas[i] ** 2) * eps
        d = (x - denoise(x, sigma_hat)) / sigma_hat
        x_next = x + (sigmas[i + 1] - sigma_hat) * d
        if sigmas[i + 1] != 0:
            d_next = (x_next - denoise(x_next, sigmas[i + 1])) / sigmas[i + 1]
            x_next = x + (sigmas[i + 1] - sigma_hat) * (d / 2 + d_next / 2)
        x = x_next
    return x


@pytest.fixture
def noise():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def logged(monkeypatch):
    messages = []
    monkeypatch.setattr(configuration_utils.logger, "warning", messages.append)
    return messages


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("s_churn", [0.0, 5.0, 40.0])
@pytest.mark.parametrize("n", [1, 6, 18])
def test_loop_equals_algorithms_1_and_2(noise, n, s_churn, clip):
    churn = {"s_churn": s_churn, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}
    scheduler = EDMHeunScheduler(clip_sample=clip, **churn)
    sample = sample_with(scheduler, network, noise, n, torch.Generator().manual_seed(7))
    expected = algorithm_2(
        network, noise, karras_sigmas(n), **churn, clip=clip, generator=torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(sample.double(), expected, atol=1e-5, rtol=1e-5)


def test_n_steps_call_the_network_2n_minus_1_times(noise):
    calls = []

    def counted(model_input, timestep):
        calls.append(timestep.item())
        return network(model_input, timestep)

    scheduler = EDMHeunScheduler()
    sample_with(scheduler, counted, noise, 40)
    assert len(calls) == len(scheduler.timesteps) == 79
    assert scheduler.num_inference_steps == 40


def test_noise_levels_are_the_karras_ramp():
    scheduler = EDMHeunScheduler()
    scheduler.set_timesteps(40)
    levels = karras_sigmas(40)
    expected = [levels[0], *np.repeat(levels[1:-1], 2), 0.0]
    np.testing.assert_allclose(scheduler.sigmas, expected, rtol=1e-6)
    np.testing.assert_allclose(scheduler.timesteps, np.log(expected[:-1]) / 4, rtol=1e-6)
    assert scheduler.sigmas[0] == 80
    assert scheduler.sigmas[-2].item() == pytest.approx(0.002)
    assert scheduler.init_noise_sigma == 80


def test_evaluations_alternate_between_sigma_hat_and_the_next_sigma():
    scheduler = EDMHeunScheduler(s_churn=4.0, s_tmin=1.0, s_tmax=2.0)
    scheduler.set_timesteps(sigmas=[4.0, 2.0, 1.0, 0.1])
    gamma = math.sqrt(2) - 1  # less than 4 / 4
    expected = [4, 2, 2 * (1 + gamma), 1, 1 + gamma, 0.1, 0.1, 0]
    np.testing.assert_allclose(scheduler.sigmas, expected, rtol=1e-6)


def test_final_sigmas_type_sigma_min_ends_at_sigma_min():
    scheduler = EDMHeunScheduler(final_sigmas_type="sigma_min")
    scheduler.set_timesteps(3)
    assert scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0


@pytest.mark.parametrize("sigma_schedule", ["karras", "exponential"])
def test_schedules_are_those_of_edm_euler(sigma_schedule):
    heun = EDMHeunScheduler(sigma_schedule=sigma_schedule)
    euler = EDMEulerScheduler(sigma_schedule=sigma_schedule)
    heun.set_timesteps(10)
    euler.set_timesteps(10)
    torch.testing.assert_close(heun.sigmas[0::2], euler.sigmas[:-1])


@pytest.mark.parametrize("sigma_schedule", ["karras", "exponential"])
def test_single_step_returns_the_clamped_denoised_image(noise, sigma_schedule):
    scheduler = EDMHeunScheduler(sigma_schedule=sigma_schedule)
    scheduler.set_timesteps(1)
    assert scheduler.sigmas.tolist() == [80, 0]
    [timestep] = scheduler.timesteps
    x = noise * scheduler.init_noise_sigma
    output = network(scheduler.scale_model_input(x, timestep), timestep)
    expected = scheduler.precondition_outputs(x, output, scheduler.sigmas[0]).clamp(-1, 1)
    torch.testing.assert_close(scheduler.step(output, timestep, x).prev_sample, expected, atol=1e-5, rtol=0)


class GaussianData:
    """Data N(mean, std^2): the exact denoiser and the exact solution of the probability flow ODE."""

    mean, std = 0.1, 0.3

    def __call__(self, model_input, timestep):
        sigma = (4 * timestep.double()).exp()
        x = model_input.double() * (sigma**2 + 0.25).sqrt()
        denoised = (self.std**2 * x + sigma**2 * self.mean) / (self.std**2 + sigma**2)
        c_skip, c_out = 0.25 / (sigma**2 + 0.25), 0.5 * sigma / (sigma**2 + 0.25).sqrt()
        return (denoised - c_skip * x) / c_out

    def solution(self, x, sigma):
        return self.mean + (x - self.mean) * self.std / math.sqrt(self.std**2 + sigma**2)


def errors_on_gaussian_data(scheduler, noise, steps):
    data = GaussianData()
    errors = []
    for n in steps:
        sample = sample_with(scheduler, data, noise.double(), n)
        exact = data.solution(noise.double() * scheduler.init_noise_sigma, scheduler.sigmas[0].item())
        errors.append((sample - exact).abs().max().item())
    return np.array(errors)


def test_gaussian_data_is_sampled_along_the_exact_trajectory(noise):
    [error] = errors_on_gaussian_data(EDMHeunScheduler(clip_sample=False), noise, [160])
    assert error < 1e-3


def test_error_is_of_second_order_where_eulers_is_of_first(noise):
    steps = [24, 48, 96]
    heun = errors_on_gaussian_data(EDMHeunScheduler(clip_sample=False), noise, steps)
    euler = errors_on_gaussian_data(EDMEulerScheduler(), noise, steps)
    assert np.log2(heun[:-1] / heun[1:]) == pytest.approx([2, 2], abs=0.2)
    assert np.log2(euler[:-1] / euler[1:]) == pytest.approx([1, 1], abs=0.2)


def test_churn_keeps_the_distribution_of_gaussian_data():
    data = GaussianData()
    scheduler = EDMHeunScheduler(s_churn=20.0, clip_sample=False)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, 1, 1, generator=generator, dtype=torch.float64)
    sample = sample_with(scheduler, data, noise, 80, generator)
    assert sample.mean().item() == pytest.approx(data.mean, abs=0.01)
    assert sample.std().item() == pytest.approx(data.std, rel=0.02)


def test_first_steps_churn_is_part_of_the_starting_noise():
    scheduler = EDMHeunScheduler(s_churn=1.0, s_noise=2.0)
    scheduler.set_timesteps(10)
    sigma_hat = 80 * 1.1
    assert scheduler.sigmas[0].item() == pytest.approx(sigma_hat)
    variance = (
        80**2 + (sigma_hat**2 - 80**2) * 2.0**2
    )  # of sigma_0 * n + sqrt(sigma_hat^2 - sigma_0^2) * s_noise * eps
    assert scheduler.init_noise_sigma**2 == pytest.approx(variance)


def test_denoised_image_is_clamped_at_every_evaluation_unless_turned_off(noise):
    def extremes(scheduler):
        scheduler.set_timesteps(5)
        sample, largest = noise * scheduler.init_noise_sigma, []
        for timestep in scheduler.timesteps:
            output = 5 * scheduler.scale_model_input(sample, timestep)
            step = scheduler.step(output, timestep, sample)
            largest.append(step.pred_original_sample.abs().max().item())
            sample = step.prev_sample
        return largest

    assert extremes(EDMHeunScheduler()) == pytest.approx([1.0] * 9)
    assert extremes(EDMHeunScheduler(clip_sample_range=0.5)) == pytest.approx([0.5] * 9)
    assert min(extremes(EDMHeunScheduler(clip_sample=False))) > 1


def test_preconditioning_for_training_is_not_clamped():
    scheduler = EDMHeunScheduler()
    sample = torch.full((1, 3, 2, 2), 30.0)
    assert scheduler.precondition_outputs(sample, torch.zeros_like(sample), 0.5).max() == 15


def test_v_prediction_is_epsilon_with_the_opposite_sign(noise):
    epsilon = sample_with(EDMHeunScheduler(), network, noise, 4)
    v = sample_with(EDMHeunScheduler(prediction_type="v_prediction"), lambda x, t: -network(x, t), noise, 4)
    torch.testing.assert_close(v, epsilon)


@pytest.mark.parametrize("reset", [True, False])
def test_running_the_loop_twice_gives_the_same(noise, reset):
    scheduler = EDMHeunScheduler(s_churn=10.0)
    first = sample_with(scheduler, network, noise, 5, torch.Generator().manual_seed(1))
    if reset:
        scheduler.set_timesteps(5)
    second = run_loop(scheduler, network, noise * scheduler.init_noise_sigma, torch.Generator().manual_seed(1))
    assert torch.equal(first, second)


def test_set_timesteps_recovers_from_an_interrupted_loop(noise):
    scheduler = EDMHeunScheduler()
    expected = sample_with(scheduler, network, noise, 5)
    scheduler.step(torch.zeros_like(noise), scheduler.timesteps[0], noise)
    assert torch.equal(sample_with(scheduler, network, noise, 5), expected)


@pytest.mark.parametrize("s_churn", [0.0, 2.0])
@pytest.mark.parametrize("by_index", [True, False])
def test_sampling_may_begin_mid_schedule(noise, by_index, s_churn):
    scheduler = EDMHeunScheduler(s_churn=s_churn)
    scheduler.set_timesteps(6)
    begin = 2 * scheduler.order
    images = noise.clamp(-1, 1)
    x = scheduler.add_noise(images, noise, scheduler.timesteps[begin : begin + 1])
    if by_index:
        scheduler.set_begin_index(begin)
    calls = []

    def recorded(model_input, timestep):
        calls.append(timestep.item())
        return network(model_input, timestep)

    generator = torch.Generator().manual_seed(0)
    sample = run_loop(scheduler, recorded, x, generator, begin)
    assert calls == scheduler.timesteps[begin:].tolist()

    levels = karras_sigmas(6)[2:]  # the same steps as a schedule of its own
    alone = EDMHeunScheduler(s_churn=s_churn * 4 / 6)
    alone.set_timesteps(sigmas=levels)
    expected = run_loop(alone, network, x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)


def test_sampling_cannot_begin_at_a_second_evaluation(noise):
    scheduler = EDMHeunScheduler()
    scheduler.set_timesteps(4)
    scheduler.set_begin_index(1)
    with pytest.raises(ValueError, match="first evaluation"):
        scheduler.step(noise, scheduler.timesteps[1], noise)


def test_list_of_generators_samples_each_image_as_alone(noise):
    scheduler = EDMHeunScheduler(s_churn=10.0)
    together = sample_with(scheduler, network, noise, 4, [torch.Generator().manual_seed(seed) for seed in (3, 4)])
    for i, seed in enumerate((3, 4)):
        alone = sample_with(scheduler, network, noise[i : i + 1], 4, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
@pytest.mark.parametrize("end", [[], [0.0]])
def test_sigmas_are_taken_as_they_are(noise, make, end):
    sigmas = [10.0, 3.0, 0.5]
    scheduler = EDMHeunScheduler()
    sample = sample_with(scheduler, network, noise, sigmas=make([*sigmas, *end]))
    assert scheduler.sigmas.tolist() == [10, 3, 3, 0.5, 0.5, 0]
    assert scheduler.init_noise_sigma == 10
    expected = algorithm_2(network, noise, [*sigmas, 0.0], 0.0, 0.0, math.inf, 1.0, True, None)
    torch.testing.assert_close(sample.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "either"),
        ({"num_inference_steps": 3, "sigmas": [3.0, 1.0]}, "either"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"sigmas": []}, "decreasing"),
        ({"sigmas": [0.0]}, "decreasing"),
        ({"sigmas": [1.0, 1.0]}, "decreasing"),
        ({"sigmas": [1.0, 2.0]}, "decreasing"),
        ({"sigmas": [1.0, -1.0]}, "positive"),
        ({"sigmas": [math.inf, 1.0]}, "finite"),
        ({"sigmas": [math.nan]}, "finite"),
        ({"sigmas": [[2.0, 1.0]]}, "decreasing"),
    ],
)
def test_unusable_steps_are_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EDMHeunScheduler().set_timesteps(**kwargs)


def test_integer_or_unknown_timesteps_are_rejected(noise):
    scheduler = EDMHeunScheduler()
    scheduler.set_timesteps(4)
    for use in (
        lambda t: scheduler.step(noise, t, noise),
        lambda t: scheduler.scale_model_input(noise, t),
        lambda t: scheduler.add_noise(noise, noise, torch.as_tensor(t)),
    ):
        for index in (0, torch.tensor(0)):
            with pytest.raises(ValueError, match="not indices"):
                use(index)
    with pytest.raises(ValueError, match=r"not in scheduler\.timesteps"):
        scheduler.step(noise, 0.1234, noise)


def test_step_before_set_timesteps_is_an_error(noise):
    scheduler = EDMHeunScheduler()
    assert scheduler.init_noise_sigma == 80
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step(noise, scheduler.timesteps[0], noise)


def test_negative_churn_is_an_error():
    with pytest.raises(ValueError, match="negative"):
        EDMHeunScheduler(s_churn=-1.0)


def test_add_noise_works_between_the_noise_levels_of_the_table(noise):
    scheduler = EDMHeunScheduler()
    sigma = torch.tensor([0.123, 45.6])
    noisy = scheduler.add_noise(torch.ones(SHAPE), noise, scheduler.precondition_noise(sigma))
    torch.testing.assert_close(noisy, 1 + sigma.reshape(2, 1, 1, 1) * noise)
    one_for_all = scheduler.add_noise(torch.ones(SHAPE), noise, torch.tensor(math.log(2) / 4))
    torch.testing.assert_close(one_for_all, 1 + 2 * noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_network_leaves_the_sample_in_float32(noise, dtype):
    def rounded(model_input, timestep):
        return network(model_input, timestep).to(dtype)

    sample = sample_with(EDMHeunScheduler(), rounded, noise, 10)
    assert sample.dtype == torch.float32
    torch.testing.assert_close(sample, sample_with(EDMHeunScheduler(), network, noise, 10), atol=2e-2, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_results_take_the_dtype_of_the_sample(noise, dtype):
    scheduler = EDMHeunScheduler(s_churn=5.0)
    scheduler.set_timesteps(3)
    sample = noise.to(dtype)
    for timestep in scheduler.timesteps:
        step = scheduler.step(torch.zeros_like(noise), timestep, sample)
        assert step.prev_sample.dtype == step.pred_original_sample.dtype == dtype
        sample = step.prev_sample


def test_tuple_holds_the_fields_of_the_output(noise):
    scheduler = EDMHeunScheduler()
    scheduler.set_timesteps(1)
    output = scheduler.step(noise, scheduler.timesteps[0], noise)
    prev_sample, denoised = scheduler.step(noise, scheduler.timesteps[0], noise, return_dict=False)
    assert torch.equal(prev_sample, output.prev_sample)
    assert torch.equal(denoised, output.pred_original_sample)


def test_configuration_is_saved_as_valid_json_and_loaded(tmp_path):
    settings = {
        "sigma_min": 0.01,
        "sigma_max": 50.0,
        "sigma_data": 0.7,
        "sigma_schedule": "exponential",
        "num_train_timesteps": 100,
        "prediction_type": "v_prediction",
        "rho": 5.0,
        "final_sigmas_type": "sigma_min",
        "s_churn": 3.0,
        "s_tmin": 0.1,
        "s_tmax": math.inf,
        "s_noise": 1.01,
        "clip_sample": False,
        "clip_sample_range": 2.0,
    }
    EDMHeunScheduler(**settings).save_pretrained(tmp_path)

    def reject(constant):
        raise AssertionError(f"{constant} is not JSON")

    stored = json.loads((tmp_path / "scheduler_config.json").read_text(), parse_constant=reject)
    assert stored["_class_name"] == "EDMHeunScheduler"
    loaded = EDMHeunScheduler.from_pretrained(tmp_path)
    expected = {**settings, "s_tmax": None}
    assert {key: loaded.config[key] for key in settings} == {key: stored[key] for key in settings} == expected


def test_default_configuration_reproduces_the_published_sampler():
    config = EDMHeunScheduler().config
    assert (config.sigma_min, config.sigma_max, config.sigma_data, config.rho) == (0.002, 80.0, 0.5, 7.0)
    assert (config.s_churn, config.clip_sample, config.clip_sample_range) == (0.0, True, 1.0)
    assert len(EDMHeunScheduler()) == config.num_train_timesteps == 1000


@pytest.mark.parametrize("other", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
@pytest.mark.parametrize("stored", [True, False])
def test_swapping_schedulers_and_back_keeps_the_configuration(tmp_path, noise, other, stored):
    heun = EDMHeunScheduler(sigma_max=50.0, rho=5.0, s_churn=3.0, clip_sample=False)
    if stored:
        heun.save_pretrained(tmp_path)
        heun = EDMHeunScheduler.from_pretrained(tmp_path)
    swapped = other.from_config(heun.config)
    assert (swapped.config.sigma_max, swapped.config.rho) == (50.0, 5.0)
    swapped.set_timesteps(3)
    for timestep in swapped.timesteps:
        swapped.step(noise, timestep, swapped.scale_model_input(noise, timestep))

    back = EDMHeunScheduler.from_config(swapped.config)
    for key in ("sigma_min", "sigma_max", "rho", "s_churn", "s_tmax", "clip_sample", "clip_sample_range"):
        assert back.config[key] == heun.config[key]


@pytest.mark.parametrize("other", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_taking_over_another_edm_schedulers_configuration_warns_of_nothing(tmp_path, logged, other):
    other(sigma_max=50.0, num_train_timesteps=100).save_pretrained(tmp_path)
    heun = EDMHeunScheduler.from_config(other.from_pretrained(tmp_path).config)
    assert heun.config.sigma_max == 50
    assert heun.config.clip_sample
    assert EDMHeunScheduler.from_pretrained(tmp_path).config.sigma_max == 50
    assert set(heun.compatibles) == {EDMEulerScheduler, EDMDPMSolverMultistepScheduler}
    assert logged == []


def test_giving_up_clipping_in_a_swap_is_logged(logged):
    EDMEulerScheduler.from_config(EDMHeunScheduler(clip_sample=True).config)
    assert len(logged) == 1
    assert "clip_sample" in logged[0]
