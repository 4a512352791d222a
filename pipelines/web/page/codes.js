/** Codes of one picture, and how an edit makes new ones of those of A and B. */

/**
 * @typedef {object} Codes Content codes (N x d_c) and mask codes (N x d_m), row by row; a single concept has no mask.
 * @property {Float32Array} content
 * @property {Float32Array | null} mask
 */

/** @typedef {"content" | "mask"} Kind */

/**
 * @typedef {object} KindBasis
 * @property {number[][]} mean
 * @property {number[][][]} components N x p x d
 * @property {number[][]} deviations N x p
 */

/** @typedef {Partial<Record<Kind, KindBasis>>} Basis */

/**
 * @typedef {object} Edit Per kind and concept, how far from A to B, and along each direction in standard deviations.
 * @property {Record<Kind, number[]>} blend
 * @property {Record<Kind, number[][]>} directions
 */

/** @type {Kind[]} */
export const KINDS = ["content", "mask"];

/**
 * An edit that changes nothing.
 *
 * @param {number} numConcepts
 * @param {Basis | null} basis
 * @returns {Edit}
 */
export function noEdit(numConcepts, basis) {
  const zeros = () => new Array(numConcepts).fill(0);
  const directions = (/** @type {Kind} */ kind) =>
    Array.from({ length: numConcepts }, (_, n) => (basis?.[kind]?.deviations[n] ?? []).map(() => 0));
  return {
    blend: { content: zeros(), mask: zeros() },
    directions: { content: directions("content"), mask: directions("mask") },
  };
}

/**
 * The same edit, done to a part: 0 for nothing, 1 for all of it.
 *
 * @param {Edit} edit
 * @param {number} part
 * @returns {Edit}
 */
export function scaleEdit(edit, part) {
  const scale = (/** @type {number[]} */ values) => values.map((value) => part * value);
  return {
    blend: { content: scale(edit.blend.content), mask: scale(edit.blend.mask) },
    directions: { content: edit.directions.content.map(scale), mask: edit.directions.mask.map(scale) },
  };
}

/** @param {Edit} edit */
export function isNoEdit(edit) {
  return KINDS.every((kind) => [...edit.blend[kind], ...edit.directions[kind].flat()].every((value) => value === 0));
}

/**
 * Blend the codes of A and B, concept by concept, and move them along their directions.
 *
 * @param {Codes} a
 * @param {Codes} b
 * @param {Edit} edit
 * @param {Basis | null} basis
 * @returns {Codes}
 */
export function editCodes(a, b, edit, basis) {
  const edited = (/** @type {Kind} */ kind) => {
    const [from, to] = [a[kind], b[kind]];
    if (!from || !to) return null;
    const size = from.length / edit.blend[kind].length;
    const result = from.map((value, i) => value + edit.blend[kind][Math.floor(i / size)] * (to[i] - value));
    edit.directions[kind].forEach((values, concept) => {
      values.forEach((value, p) => {
        const part = basis?.[kind];
        if (value === 0 || !part) return;
        const step = value * part.deviations[concept][p];
        for (let i = 0; i < size; i++) result[concept * size + i] += step * part.components[concept][p][i];
      });
    });
    return result;
  };
  return { content: /** @type {Float32Array} */ (edited("content")), mask: edited("mask") };
}
