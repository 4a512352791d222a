/** The cards of the concepts: what each covers, and the sliders that blend its codes. */

import { KINDS } from "./codes.js";
import { maskedPicture, show } from "./images.js";
import { BLEND_RANGE, DIRECTION_RANGE } from "./state.js";

/** @typedef {import("./codes.js").Kind} Kind */
/** @typedef {{ kind: Kind, concept: number, direction: number | null }} Slot Which number of an edit a slider moves. */
/** @typedef {{ picture: ImageData, masks: Float32Array }} Seen */

/** @type {Record<Kind, { label: string, help: string }>} */
const WORDS = {
  content: { label: "what", help: "its content code: colour, material" },
  mask: { label: "where", help: "its mask code: place, shape" },
};

/** Colours of concepts, as CSS. @param {number} concept @param {number} numConcepts */
export function conceptColor(concept, numConcepts) {
  return `oklch(0.7 0.13 ${Math.round(35 + (360 * concept) / numConcepts)})`;
}

export class ConceptCards {
  /**
   * @param {HTMLElement} root
   * @param {{ onInput: () => void, onChange: () => void, onHover: (concept: number | null) => void }} events
   */
  constructor(root, events) {
    this.root = root;
    this.events = events;
    /** @type {{ slot: Slot, input: HTMLInputElement, output: HTMLOutputElement }[]} */
    this.sliders = [];
    /** @type {HTMLElement[]} */
    this.cards = [];
    /** @type {import("./codes.js").Edit | null} */
    this.edit = null;
  }

  /**
   * Lay out the cards of a model.
   *
   * @param {import("./description.js").Description} description
   */
  build({ num_concepts: numConcepts, mask_dim: maskDim, basis, sample_size: size }) {
    this.sliders = [];
    const kinds = maskDim === null ? KINDS.slice(0, 1) : KINDS;
    this.cards = Array.from({ length: numConcepts }, (_, concept) => {
      const card = element("li", { className: "concept", tabIndex: -1 });
      card.dataset.concept = String(concept);
      card.style.setProperty("--concept", conceptColor(concept, numConcepts));
      const name = numConcepts === 1 ? "The whole picture" : `Concept ${concept + 1}`;
      const views = ["A", "B"].map((side) => {
        const canvas = element("canvas", { width: size, height: size, className: "masked" });
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `What ${name.toLowerCase()} covers in picture ${side}`);
        const thumb = element("div", {}, canvas);
        thumb.dataset.side = side;
        return thumb;
      });
      const pair = element("div", { className: "pair" }, ...views);
      const body = element("div", { className: "sliders" }, element("h3", {}, name));
      for (const kind of kinds) body.append(this.#slider({ kind, concept, direction: null }, name));
      const directions = kinds.flatMap((kind) =>
        (basis?.[kind]?.deviations[concept] ?? []).map((_, direction) =>
          this.#slider({ kind, concept, direction }, name),
        ),
      );
      if (directions.length > 0) {
        body.append(element("details", {}, element("summary", {}, "Directions of its own"), ...directions));
      }
      card.append(pair, body);
      pair.addEventListener("pointerenter", () => this.events.onHover(concept));
      pair.addEventListener("pointerleave", () => this.events.onHover(null));
      return card;
    });
    this.root.replaceChildren(...this.cards);
  }

  /**
   * Show an edit, which the sliders then change in place.
   *
   * @param {import("./codes.js").Edit} edit
   */
  show(edit) {
    this.edit = edit;
    for (const slider of this.sliders) {
      slider.input.value = String(read(edit, slider.slot));
      describe(slider);
    }
  }

  /**
   * @param {Seen | null} a
   * @param {Seen | null} b
   */
  showMasks(a, b) {
    this.cards.forEach((card, concept) => {
      const canvases = card.querySelectorAll("canvas");
      [a, b].forEach((seen, i) => {
        show(canvases[i], seen && maskedPicture(seen.picture, seen.masks, concept));
      });
    });
  }

  /** @param {number | null} concept */
  highlight(concept) {
    this.cards.forEach((card, n) => {
      card.classList.toggle("lit", n === concept);
    });
  }

  /**
   * @param {Slot} slot
   * @param {string} concept
   */
  #slider(slot, concept) {
    const words = WORDS[slot.kind];
    const isBlend = slot.direction === null;
    const { min, max } = isBlend ? BLEND_RANGE : DIRECTION_RANGE;
    const label = isBlend ? words.label : `${words.label} ${/** @type {number} */ (slot.direction) + 1}`;
    const input = element("input", { type: "range", min: String(min), max: String(max), step: "0.01", value: "0" });
    input.className = isBlend ? "blend" : "direction";
    input.setAttribute("aria-label", `${concept}, ${label}: ${isBlend ? `${words.help}, from A to B` : "direction"}`);
    input.title = `${isBlend ? words.help : "a direction in which this code varies"}; double-click to reset`;
    const output = element("output", {});
    const slider = { slot, input, output };
    this.sliders.push(slider);
    const take = () => {
      if (!this.edit) return;
      write(this.edit, slot, Number(input.value));
      describe(slider);
      this.events.onInput();
    };
    input.addEventListener("input", take);
    input.addEventListener("change", () => this.events.onChange());
    input.addEventListener("dblclick", () => {
      input.value = "0";
      take();
      this.events.onChange();
    });
    return element("label", { className: "slider" }, element("span", {}, label), input, output);
  }
}

/** @param {{ slot: Slot, input: HTMLInputElement, output: HTMLOutputElement }} slider */
function describe({ slot, input, output }) {
  const value = Number(input.value);
  const number =
    slot.direction === null ? `${Math.round(100 * value)} %` : `${value > 0 ? "+" : ""}${value.toFixed(1)} σ`;
  const end = slot.direction === null ? { 0: "A", 1: "B" }[value] : value === 0 ? "·" : undefined;
  output.value = end ?? number.replace("-", "−");
  input.setAttribute("aria-valuetext", slot.direction === null ? `${Math.round(100 * value)} percent of B` : number);
  const { min, max } = slot.direction === null ? BLEND_RANGE : DIRECTION_RANGE;
  input.style.setProperty("--at", String((value - min) / (max - min)));
  output.classList.toggle("changed", value !== 0);
}

/**
 * @param {import("./codes.js").Edit} edit
 * @param {Slot} slot
 */
function read(edit, { kind, concept, direction }) {
  return direction === null ? edit.blend[kind][concept] : edit.directions[kind][concept][direction];
}

/**
 * @param {import("./codes.js").Edit} edit
 * @param {Slot} slot
 * @param {number} value
 */
function write(edit, { kind, concept, direction }, value) {
  if (direction === null) edit.blend[kind][concept] = value;
  else edit.directions[kind][concept][direction] = value;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
