/** What the visitor has made: pictures, edit, history, and the link that holds it all. */

import { KINDS, noEdit } from "./codes.js";

/** @typedef {{ example: number } | { picture: string }} Source An example's number, or a picture's data address. */
/** @typedef {{ model: string, a: Source | null, b: Source | null, edit: import("./codes.js").Edit }} State */

export const BLEND_RANGE = { min: -0.5, max: 1.5 };
export const DIRECTION_RANGE = { min: -3, max: 3 };
const MAX_HISTORY = 200;

/** Undo and redo. */
export class History {
  constructor() {
    /** @type {string[]} */
    this.past = [];
    /** @type {string[]} */
    this.future = [];
  }

  /** @param {State} state Of now; the last one that was kept can then be gone back to. */
  keep(state) {
    const snapshot = JSON.stringify(state);
    if (snapshot === this.past.at(-1)) return;
    this.past.push(snapshot);
    if (this.past.length > MAX_HISTORY) this.past.shift();
    this.future = [];
  }

  /** @returns {State | null} */
  undo() {
    if (!this.canUndo) return null;
    this.future.push(/** @type {string} */ (this.past.pop()));
    return JSON.parse(/** @type {string} */ (this.past.at(-1)));
  }

  /** @returns {State | null} */
  redo() {
    const snapshot = this.future.pop();
    if (snapshot === undefined) return null;
    this.past.push(snapshot);
    return JSON.parse(snapshot);
  }

  get canUndo() {
    return this.past.length > 1;
  }

  get canRedo() {
    return this.future.length > 0;
  }
}

/**
 * The part of an address after #, which holds a state.
 *
 * @param {State} state
 */
export function toFragment(state) {
  const parameters = new URLSearchParams({ model: state.model });
  for (const side of /** @type {const} */ (["a", "b"])) {
    const source = state[side];
    if (source) parameters.set(side, "example" in source ? String(source.example) : source.picture);
  }
  const short = (/** @type {number} */ value) => String(Number(value.toFixed(2)));
  for (const kind of KINDS) {
    const { blend, directions } = state.edit;
    if (blend[kind].some(Boolean)) parameters.set(kind, blend[kind].map(short).join(","));
    if (directions[kind].flat().some(Boolean)) {
      parameters.set(`${kind}-directions`, directions[kind].map((row) => row.map(short).join(",")).join(";"));
    }
  }
  return parameters.toString();
}

/** @param {string} fragment @returns {string | null} */
export function modelOfFragment(fragment) {
  return new URLSearchParams(fragment).get("model");
}

/**
 * Read a state from an address. What does not fit the model is left out.
 *
 * @param {string} fragment
 * @param {string} model
 * @param {import("./description.js").Description} description
 * @returns {State}
 */
export function fromFragment(fragment, model, description) {
  const parameters = new URLSearchParams(fragment);
  const state = firstState(model, description);
  if (parameters.get("model") !== model) return state;
  for (const side of /** @type {const} */ (["a", "b"])) {
    const value = parameters.get(side) ?? "";
    if (/^\d+$/.test(value) && Number(value) < description.examples.length) state[side] = { example: Number(value) };
    else if (/^data:image\/png;base64,[\w+/=]+$/.test(value)) state[side] = { picture: value };
  }
  for (const kind of KINDS) {
    fill(state.edit.blend[kind], parameters.get(kind), BLEND_RANGE);
    const rows = parameters.get(`${kind}-directions`)?.split(";") ?? [];
    state.edit.directions[kind].forEach((row, n) => {
      fill(row, rows[n], DIRECTION_RANGE);
    });
  }
  return state;
}

/**
 * What a visitor sees first: two examples, and nothing edited.
 *
 * @param {string} model
 * @param {import("./description.js").Description} description
 * @returns {State}
 */
export function firstState(model, description) {
  const example = (/** @type {number} */ i) => (i < description.examples.length ? { example: i } : null);
  return { model, a: example(0), b: example(1), edit: noEdit(description.num_concepts, description.basis) };
}

/**
 * @param {number[]} values Replaced in place, if the text holds as many numbers.
 * @param {string | null | undefined} text
 * @param {{ min: number, max: number }} range
 */
function fill(values, text, { min, max }) {
  const numbers = text?.split(",").map(Number) ?? [];
  if (numbers.length !== values.length || !numbers.every(Number.isFinite)) return;
  numbers.forEach((number, i) => {
    values[i] = Math.min(max, Math.max(min, number));
  });
}
