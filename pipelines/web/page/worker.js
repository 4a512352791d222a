/**
 * The model in a thread of its own. One job runs at a time, the most urgent first; a new preview makes older previews
 * and refinements void, so that the picture always follows the newest position of a slider.
 */

import { ModelError, modelReader } from "./description.js";
import { Model, numThreads } from "./model.js";

/** @typedef {import("./codes.js").Codes} Codes */
/** @typedef {"load" | "encode" | "preview" | "refine" | "cell"} JobType From the most to the least urgent. */
/** @typedef {{ id: number, type: JobType, data: any }} Job */

/** @type {JobType[]} */
const URGENCY = ["load", "encode", "preview", "refine", "cell"];
const DROPPED = { dropped: true };

/** @type {Job[]} */
let waiting = [];
let working = false;
/** @type {Model | null} */
let model = null;

const pause = (() => {
  const { port1, port2 } = new MessageChannel();
  /** @type {(() => void)[]} */
  const resumers = [];
  port1.onmessage = () => resumers.shift()?.();
  return () =>
    new Promise((/** @type {(value: void) => void} */ resolve) => {
      resumers.push(resolve);
      port2.postMessage(null); // a task of its own, behind the messages that have come in
    });
})();

self.onmessage = (/** @type {MessageEvent<Job>} */ { data: job }) => {
  if (job.type === "preview" || job.type === "load") {
    const isVoid = (/** @type {Job} */ other) =>
      job.type === "load" || other.type === "preview" || other.type === "refine";
    for (const other of waiting.filter(isVoid)) reply(other.id, DROPPED);
    waiting = waiting.filter((other) => !isVoid(other));
  }
  waiting.push(job);
  if (!working) work();
};

async function work() {
  working = true;
  while (waiting.length > 0) {
    waiting.sort((a, b) => URGENCY.indexOf(a.type) - URGENCY.indexOf(b.type));
    await answer(/** @type {Job} */ (waiting.shift()));
    await pause();
  }
  working = false;
}

/** @param {Job} job */
async function answer(job) {
  try {
    reply(job.id, await run(job));
  } catch (error) {
    const message = error instanceof ModelError ? error.message : `The model failed: ${error}`;
    self.postMessage({ id: job.id, error: message });
  }
}

/** @param {Job} job */
async function run({ type, data }) {
  if (type === "load") {
    const loaded = await Model.load(modelReader(data));
    await model?.release(); // the former model stays if the new one does not load
    model = loaded;
    return { numThreads };
  }
  if (!model) throw new ModelError("No model is loaded.");
  if (type === "encode") return encode(model, data.pixelValues);
  const condition = await model.condition(data.codes);
  if (type === "preview") return { values: await model.preview(condition), masks: condition.masks };
  /** @type {Float32Array} */
  let values = new Float32Array();
  for await (const step of model.sample(condition, data.latents)) {
    values = step;
    await pause();
    if (type === "refine" && waiting.some((other) => other.type === "preview" || other.type === "load"))
      return DROPPED;
    await letPass(URGENCY.slice(1, URGENCY.indexOf(type)));
  }
  return { values, masks: condition.masks };
}

/**
 * Run waiting jobs of some types in the middle of another job.
 *
 * @param {JobType[]} types
 */
async function letPass(types) {
  for (;;) {
    const index = waiting.findIndex(({ type }) => types.includes(type));
    if (index < 0) return;
    const [job] = waiting.splice(index, 1);
    await answer(job);
    await pause();
  }
}

/**
 * @param {Model} model
 * @param {Float32Array} pixelValues
 */
async function encode(model, pixelValues) {
  const codes = await model.encode(pixelValues);
  const condition = await model.condition(codes);
  const rebuilt = await model.preview(condition);
  const clip = (/** @type {number} */ value) => Math.min(1, Math.max(-1, value));
  const squares = rebuilt.reduce((sum, value, i) => sum + ((clip(value) - pixelValues[i]) / 2) ** 2, 0);
  return { codes, masks: condition.masks, psnr: -10 * Math.log10(squares / rebuilt.length) };
}

/**
 * @param {number} id
 * @param {any} result
 */
function reply(id, result) {
  self.postMessage({ id, result });
}
