/**
 * EDM's preconditioning and samplers on plain arrays, as in fdae_diffusers/export/runtime.py.
 *
 * Karras et al. 2022 (https://arxiv.org/abs/2206.00364); DPM-Solver++(2M), https://arxiv.org/abs/2211.01095.
 */

/**
 * @typedef {object} Sampler The sampler of a model.json.
 * @property {"euler" | "heun" | "dpmsolver++"} algorithm
 * @property {number} num_inference_steps
 * @property {number} init_noise_sigma
 * @property {boolean} clip_sample
 * @property {number | null} first_order_end_below
 * @property {number} sigma_min
 * @property {number} sigma_max
 * @property {"karras" | "exponential"} sigma_schedule
 * @property {number} rho
 * @property {number} final_sigma
 */

/** @typedef {(x: Float32Array, sigma: number) => Promise<Float32Array>} Denoiser Noisy picture -> denoised picture. */

/**
 * Wrap a network F into the denoiser D(x, sigma) (Karras et al. 2022, eq. 7).
 *
 * @param {(sample: Float32Array, cNoise: number) => Promise<Float32Array>} network
 * @param {number} sigmaData
 * @returns {Denoiser}
 */
export function precondition(network, sigmaData) {
  return async (x, sigma) => {
    const variance = sigma ** 2 + sigmaData ** 2;
    const cSkip = sigmaData ** 2 / variance;
    const cOut = (sigma * sigmaData) / Math.sqrt(variance);
    const cIn = 1 / Math.sqrt(variance);
    const output = await network(
      x.map((value) => cIn * value),
      Math.log(sigma) / 4,
    );
    return x.map((value, i) => cSkip * value + cOut * output[i]);
  };
}

/**
 * Noise levels sigma_0 > ... > sigma_n of n steps; the last is mostly zero.
 *
 * @param {Sampler} sampler
 * @param {number} numSteps
 */
export function noiseLevels(sampler, numSteps) {
  const { sigma_min: low, sigma_max: high, rho } = sampler;
  const levels = Array.from({ length: numSteps }, (_, i) => {
    const ramp = numSteps === 1 ? 0 : i / (numSteps - 1);
    if (sampler.sigma_schedule === "exponential") return high ** (1 - ramp) * low ** ramp;
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho;
  });
  return [...levels, sampler.final_sigma];
}

/**
 * Sample from noise of standard deviation init_noise_sigma, yielding after each step.
 *
 * @param {Denoiser} denoise
 * @param {Float32Array} x
 * @param {number[]} levels
 * @param {Sampler} sampler
 */
export async function* sampleSteps(denoise, x, levels, sampler) {
  const clip = (/** @type {Float32Array} */ values) =>
    sampler.clip_sample ? values.map((value) => Math.min(1, Math.max(-1, value))) : values;
  const numSteps = levels.length - 1;
  /** @type {{ denoised: Float32Array, h: number } | null} */
  let previous = null;
  for (let i = 0; i < numSteps; i++) {
    const [sigma, sigmaNext] = [levels[i], levels[i + 1]];
    const start = x;
    const denoised = clip(await denoise(start, sigma));
    const ratio = sigmaNext / sigma;
    const h = Math.log(sigma / sigmaNext);
    let target = denoised;
    const below = sampler.first_order_end_below; // null: always
    const lastIsFirstOrder = i === numSteps - 1 && (below === null || numSteps < below);
    if (sampler.algorithm === "dpmsolver++" && previous !== null && !lastIsFirstOrder) {
      const { denoised: before, h: hBefore } = previous;
      target = denoised.map((value, j) => value + 0.5 * (h / hBefore) * (value - before[j]));
    }
    x = start.map((value, j) => ratio * value + (1 - ratio) * target[j]);
    if (sampler.algorithm === "heun" && sigmaNext > 0) {
      const proposal = x;
      const denoisedNext = clip(await denoise(proposal, sigmaNext));
      x = start.map((value, j) => {
        const slopes = (value - denoised[j]) / sigma + (proposal[j] - denoisedNext[j]) / sigmaNext;
        return value + ((sigmaNext - sigma) * slopes) / 2;
      });
    }
    previous = { denoised, h };
    yield x;
  }
}

/**
 * Standard normal noise, the same for a seed in every browser (mulberry32 and Box-Muller).
 *
 * @param {number} length
 * @param {number} seed
 */
export function normalNoise(length, seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from(
    { length },
    () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
