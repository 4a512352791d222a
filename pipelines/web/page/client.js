/** The page's side of the worker: calls that return promises. */

/** @typedef {import("./codes.js").Codes} Codes */
/** @typedef {{ values: Float32Array, masks: Float32Array }} Drawing Values (3, H, W) in [-1, 1], masks (N, H, W). */
/** @typedef {{ codes: Codes, masks: Float32Array, psnr: number }} Encoding */

export class ModelClient {
  /** @param {(message: string) => void} onFailure Told when the worker itself does not run. */
  constructor(onFailure) {
    /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
    this.calls = new Map();
    this.lastId = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => {
      const call = this.calls.get(data.id);
      this.calls.delete(data.id);
      if (data.error) call?.reject(new Error(data.error));
      else call?.resolve(data.result);
    };
    this.worker.onerror = (event) => onFailure(event.message);
  }

  /**
   * @param {import("./description.js").ModelSource} source
   * @returns {Promise<{ numThreads: number }>}
   */
  load(source) {
    return this.#call("load", source);
  }

  /**
   * @param {Float32Array} pixelValues
   * @returns {Promise<Encoding>}
   */
  async encode(pixelValues) {
    const result = await this.#call("encode", { pixelValues });
    if (result.dropped) throw new Error("Another model was opened meanwhile.");
    return result;
  }

  /**
   * Draw at once with a single call of the U-Net.
   *
   * @param {Codes} codes
   * @returns {Promise<Drawing | null>} null if something newer was asked for.
   */
  async preview(codes) {
    const result = await this.#call("preview", { codes });
    return result.dropped ? null : result;
  }

  /**
   * Draw with the whole sampler.
   *
   * @param {Codes} codes
   * @returns {Promise<Drawing | null>} null if something newer was asked for.
   */
  async refine(codes) {
    const result = await this.#call("refine", { codes });
    return result.dropped ? null : result;
  }

  /**
   * Draw with the whole sampler when there is nothing more urgent to do.
   *
   * @param {Codes} codes
   * @param {Float32Array} [latents]
   * @returns {Promise<Drawing | null>} null if another model was loaded.
   */
  async cell(codes, latents) {
    const result = await this.#call("cell", { codes, latents });
    return result.dropped ? null : result;
  }

  /**
   * @param {string} type
   * @param {object} data
   * @returns {Promise<any>}
   */
  #call(type, data) {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.worker.postMessage({ id, type, data });
    });
  }
}
