/** An exported model in onnxruntime-web: load it from a folder on the server or from files, and run its networks. */

import { ModelError, readDescription } from "./description.js";
import { noiseLevels, normalNoise, precondition, sampleSteps } from "./sampler.js";
import * as ort from "./vendor/ort.wasm.min.mjs";

/** @typedef {import("./codes.js").Codes} Codes */
/** @typedef {import("./description.js").Description} Description */
/** @typedef {import("./description.js").Part} Part */
/** @typedef {import("./description.js").Reader} Reader */
/** @typedef {{ masks: Float32Array, tensors: ort.InferenceSession.OnnxValueMapType }} Condition */

const MAX_THREADS = 4;
/** @type {Part[]} */
const PARTS = ["encoder", "decoder", "unet"];

/** Threads of onnxruntime: several only where the host isolates the page, and one core is left to the page itself. */
export const numThreads = globalThis.crossOriginIsolated
  ? Math.max(1, Math.min(MAX_THREADS, navigator.hardwareConcurrency - 1))
  : 1;

ort.env.wasm.numThreads = numThreads;
ort.env.wasm.wasmPaths = {
  mjs: new URL("./vendor/ort-wasm-simd-threaded.mjs", import.meta.url).href,
  wasm: new URL("./vendor/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};

export class Model {
  /**
   * @param {Description} description
   * @param {Record<Part, ort.InferenceSession>} sessions
   */
  constructor(description, sessions) {
    this.description = description;
    this.sessions = sessions;
    const { in_channels: channels, sample_size: size } = description;
    this.shape = [1, channels, size, size];
    this.latents = normalNoise(channels * size * size, 0);
  }

  /**
   * @param {Reader} read
   * @returns {Promise<Model>}
   */
  static async load(read) {
    const description = await readDescription(read);
    const sessions = await Promise.all(PARTS.map((part) => loadSession(read, description.files[part])));
    const [encoder, decoder, unet] = sessions;
    return new Model(description, { encoder, decoder, unet });
  }

  async release() {
    for (const part of PARTS) await this.sessions[part].release();
  }

  /**
   * @param {Float32Array} pixelValues (3, H, W) in [-1, 1]
   * @returns {Promise<Codes>}
   */
  async encode(pixelValues) {
    const outputs = await this.sessions.encoder.run({ pixel_values: new ort.Tensor(pixelValues, this.shape) });
    return { content: floats(outputs.content), mask: outputs.mask ? floats(outputs.mask) : null };
  }

  /**
   * @param {Codes} codes
   * @returns {Promise<Condition>} Masks (N, H, W) and what the U-Net is given.
   */
  async condition({ content, mask }) {
    const { num_concepts: concepts } = this.description;
    const tensor = (/** @type {Float32Array} */ values) =>
      new ort.Tensor(values, [1, concepts, values.length / concepts]);
    /** @type {Record<string, ort.Tensor>} */
    const inputs = { content: tensor(content) };
    if (mask) inputs.mask = tensor(mask);
    const outputs = await this.sessions.decoder.run(inputs);
    const { masks, ...tensors } = outputs; // the rest is for the U-Net, whatever a model conditions on
    return { masks: floats(masks), tensors };
  }

  /** @param {Condition} condition */
  denoiser({ tensors }) {
    return precondition(async (sample, cNoise) => {
      const outputs = await this.sessions.unet.run({
        sample: new ort.Tensor(sample, this.shape),
        c_noise: new ort.Tensor(Float32Array.of(cNoise), [1]),
        ...tensors,
      });
      return floats(outputs.F);
    }, this.description.sigma_data);
  }

  /**
   * Draw with one call of the U-Net: an Euler step from the highest noise level to none.
   *
   * @param {Condition} condition
   */
  preview(condition) {
    const { sigma_max: sigma } = this.description.sampler;
    return this.denoiser(condition)(
      this.latents.map((value) => sigma * value),
      sigma,
    );
  }

  /**
   * Draw with the whole sampler, yielding after each step.
   *
   * @param {Condition} condition
   * @param {Float32Array} [latents]
   */
  sample(condition, latents = this.latents) {
    const { sampler } = this.description;
    const x = latents.map((value) => sampler.init_noise_sigma * value);
    return sampleSteps(this.denoiser(condition), x, noiseLevels(sampler, sampler.num_inference_steps), sampler);
  }
}

/**
 * @param {Reader} read
 * @param {{ name: string, bytes: number, sha256: string }} file
 */
async function loadSession(read, file) {
  const bytes = await read(file.name);
  const damaged = new ModelError(`The model's file ${file.name} is damaged: export or download the model again.`);
  if (bytes.byteLength !== file.bytes) throw damaged;
  if (globalThis.crypto.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") !== file.sha256) throw damaged;
  }
  try {
    return await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] });
  } catch (error) {
    throw new ModelError(`This browser cannot run the model (${String(error).split("\n")[0]}).`);
  }
}

/** @param {ort.OnnxValue} tensor */
function floats(tensor) {
  return /** @type {Float32Array} */ (/** @type {ort.Tensor} */ (tensor).data);
}
