/** The page: wires pictures, sliders, worker, history and downloads together. */

import { toGif } from "./animation.js";
import { ModelClient } from "./client.js";
import { editCodes, isNoEdit, KINDS, noEdit, scaleEdit } from "./codes.js";
import { ConceptCards, element } from "./controls.js";
import { modelReader, readDescription } from "./description.js";
import { SwapGrid } from "./grid.js";
import {
  conceptAt,
  enlarge,
  PictureError,
  readPicture,
  show,
  squarePicture,
  toDataUrl,
  toPicture,
  toPixelValues,
  veil,
} from "./images.js";
import { find, Picker } from "./picker.js";
import { firstState, fromFragment, History, modelOfFragment, toFragment } from "./state.js";

/** @typedef {import("./state.js").Source} Source */
/** @typedef {"a" | "b"} Side */
/** @typedef {import("./client.js").Encoding & { picture: ImageData }} Seen A picture, and what the model sees in it. */

const OWN_FOLDER = "own";
const GIF_PICTURES = 14;
const PNG_WIDTH = 512;
const MAX_GRID = 5;
const NO_WEBASSEMBLY =
  "This browser has no WebAssembly, which the page needs: try a current Firefox, Chrome, Edge or Safari.";

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const button = (/** @type {string} */ id) => /** @type {HTMLButtonElement} */ (byId(id));
const canvas = (/** @type {string} */ id) => /** @type {HTMLCanvasElement} */ (byId(id));

class Page {
  constructor() {
    this.client = new ModelClient((message) => this.notice(`The page's worker does not run: ${message}`));
    this.history = new History();
    this.cards = new ConceptCards(byId("concepts"), {
      onInput: () => this.preview(),
      onChange: () => this.commit(),
      onHover: (concept) => this.highlight(concept),
    });
    this.picker = new Picker(/** @type {HTMLDialogElement} */ (byId("picker")));
    this.grid = new SwapGrid(byId("grid"), this.client, (row, column) => this.pickCell(row, column));
    /** @type {import("./description.js").Description | null} */
    this.description = null;
    /** @type {ImageData[]} */
    this.examples = [];
    /** @type {import("./state.js").State | null} */
    this.state = null;
    /** @type {Record<Side, Seen | null>} */
    this.seen = { a: null, b: null };
    /** @type {Map<string, Promise<Seen>>} Encoded pictures of this model. */
    this.encoded = new Map();
    /** @type {Seen[]} Pictures of the grid beside A and B. */
    this.others = [];
    /** @type {ImageData | null} */
    this.drawn = null;
    /** @type {Float32Array | null} */
    this.masks = null;
    /** @type {number | null} Concept that is lit up. */
    this.lit = null;
    this.holding = false;
    this.wire();
  }

  // --- Models

  async start() {
    if (typeof WebAssembly !== "object") throw new Error(NO_WEBASSEMBLY);
    const response = await fetch("models.json").catch(() => null);
    /** @type {{ path: string, title: string }[]} */
    const models = response?.ok ? (await response.json()).models : [];
    const select = /** @type {HTMLSelectElement} */ (byId("model"));
    select.replaceChildren(
      ...models.map(({ path, title }) => element("option", { value: path }, title)),
      element("option", { value: OWN_FOLDER }, "Your own folder …"),
    );
    const wanted = modelOfFragment(location.hash.slice(1));
    const model = models.find(({ path }) => path === wanted) ?? models[0];
    if (!model) throw new Error("No model is served with this page: pick the folder of your own.");
    await this.open({ folder: model.path });
  }

  /** @param {import("./description.js").ModelSource} source */
  async open(source) {
    const path = source.folder ?? OWN_FOLDER;
    setBusy(true);
    try {
      const read = modelReader(source);
      const description = await readDescription(read);
      const [{ numThreads }, examples] = await Promise.all([
        this.client.load(source),
        this.readExamples(read, description),
      ]);
      this.description = description;
      this.examples = examples;
      this.encoded.clear();
      [this.others, this.seen] = [[], { a: null, b: null }];
      this.history = new History();
      this.cards.build(description);
      this.picker.showExamples(this.examples);
      this.describe(description, numThreads);
      const state = fromFragment(location.hash.slice(1), path, description);
      await this.restore(state).catch(() => this.restore(firstState(path, description)));
      this.commit();
      this.notice(null);
      if (this.examples.length > 3 && description.mask_dim !== null) {
        this.others = await Promise.all([2, 3].map((example) => this.see({ example })));
        this.showSides();
      }
    } finally {
      // Of the model that is open, which is the former one if this one did not load.
      /** @type {HTMLSelectElement} */ (byId("model")).value = this.state?.model ?? path;
      setBusy(false);
    }
  }

  /**
   * @param {import("./description.js").Reader} read
   * @param {import("./description.js").Description} description
   */
  readExamples(read, { examples, sample_size: size }) {
    return Promise.all(examples.map(async (name) => readPicture(new Blob([await read(name)]), size, name)));
  }

  /**
   * @param {import("./description.js").Description} description
   * @param {number} numThreads
   */
  describe({ knows, num_concepts: concepts, sample_size: size, mask_dim: maskDim }, numThreads) {
    byId("knows").textContent = knows
      ? `This model knows ${knows}, ${size} × ${size} pixels. Other pictures it redraws as such.`
      : "";
    byId("concepts-title").textContent = concepts === 1 ? "A single concept" : `${concepts} concepts`;
    byId("swap").hidden = maskDim === null;
    const threads = numThreads > 1 ? `${numThreads} threads` : "one thread";
    const why = globalThis.crossOriginIsolated ? "" : ", as its server does not isolate the page for more";
    byId("environment").textContent = `Everything runs in this browser, on ${threads}${why}. No picture leaves it.`;
  }

  // --- Pictures

  /**
   * Encode a picture, once.
   *
   * @param {Source} source
   * @returns {Promise<Seen>}
   */
  see(source) {
    const key = JSON.stringify(source);
    const known = this.encoded.get(key);
    if (known) return known;
    const seeing = (async () => {
      const size = this.size;
      const picture = "example" in source ? this.examples[source.example] : await decode(source.picture, size);
      return { ...(await this.client.encode(toPixelValues(picture))), picture };
    })();
    this.encoded.set(key, seeing);
    seeing.catch(() => this.encoded.delete(key));
    return seeing;
  }

  get size() {
    return this.description?.sample_size ?? 32;
  }

  /**
   * Take a state over: its pictures and sliders. It is drawn afterwards.
   *
   * @param {import("./state.js").State} state
   */
  async restore(state) {
    const [a, b] = await Promise.all([state.a && this.see(state.a), state.b && this.see(state.b)]);
    this.state = state;
    this.seen = { a, b };
    this.cards.show(state.edit);
    this.showSides();
  }

  /**
   * @param {Side} side
   * @param {import("./picker.js").Picked} picked
   */
  async take(side, picked) {
    if (!this.state) return;
    try {
      const source = await this.toSource(picked);
      const state = { ...this.state, [side]: source };
      if (!this.state.a && !this.state.b) state[side === "a" ? "b" : "a"] = source; // something to see at once
      await this.restore(state);
      this.commit();
      this.notice(null);
    } catch (error) {
      this.notice(errorMessage(error));
    }
  }

  /**
   * @param {import("./picker.js").Picked} picked
   * @returns {Promise<Source>}
   */
  async toSource(picked) {
    if ("example" in picked) return picked;
    return { picture: toDataUrl(await readPicture(picked.file, this.size, picked.name)) };
  }

  showSides() {
    for (const side of /** @type {Side[]} */ (["a", "b"])) {
      show(/** @type {HTMLCanvasElement} */ (find(byId(`side-${side}`), "canvas")), this.seen[side]?.picture ?? null);
    }
    this.cards.showMasks(this.seen.a, this.seen.b);
    const limits = this.description?.reconstruction_psnr;
    const foreign = /** @type {Side[]} */ (["a", "b"]).filter(
      (side) => limits && (this.seen[side]?.psnr ?? Infinity) < limits.foreign_below,
    );
    byId("foreign").hidden = foreign.length === 0;
    byId("foreign").textContent = foreign
      .map((side) => {
        const rebuilt = `${this.seen[side]?.psnr.toFixed(0)} dB instead of ${limits?.typical.toFixed(0)}`;
        return `Picture ${side.toUpperCase()} is unlike what this model was trained on (it rebuilds it at ${rebuilt}).`;
      })
      .join(" ");
    for (const side of ["a", "b"])
      byId(`side-${side}`).classList.toggle("warned", foreign.includes(/** @type {Side} */ (side)));
    this.grid.show([this.seen.a, this.seen.b, ...this.others].filter((seen) => seen !== null).slice(0, MAX_GRID));
    button("add").disabled = this.grid.entries.length >= MAX_GRID;
  }

  // --- Drawing

  get codes() {
    const { a, b } = this.seen;
    if (!this.state || !this.description || !a) return null;
    return editCodes(a.codes, (b ?? a).codes, this.state.edit, this.description.basis);
  }

  /** Draw with one call of the network, while something moves. */
  async preview() {
    this.showEverything();
    const codes = this.codes;
    if (!codes) return;
    try {
      const drawing = await this.client.preview(codes);
      if (drawing) this.showDrawing(drawing, "preview");
    } catch (error) {
      this.notice(errorMessage(error));
    }
  }

  /** Draw at once, then with all steps. */
  async redraw() {
    this.preview();
    const codes = this.codes;
    if (!codes) return;
    try {
      const drawing = await this.client.refine(codes);
      if (drawing) this.showDrawing(drawing, "refined");
    } catch (error) {
      this.notice(errorMessage(error));
    }
  }

  /**
   * @param {import("./client.js").Drawing} drawing
   * @param {"preview" | "refined"} quality
   */
  showDrawing({ values, masks }, quality) {
    this.drawn = toPicture(values, this.size);
    this.masks = masks;
    if (!this.holding) show(canvas("result"), this.drawn);
    canvas("result").dataset.quality = quality;
    canvas("result").dispatchEvent(new CustomEvent("drawn", { detail: quality }));
    if (this.lit !== null) this.highlight(this.lit);
  }

  /** @param {number | null} concept */
  highlight(concept) {
    this.lit = concept;
    this.cards.highlight(concept);
    const shade = matchMedia("(prefers-color-scheme: dark)").matches ? 18 : 252;
    show(canvas("veil"), concept !== null && this.masks ? veil(this.masks, concept, this.size, shade) : null);
    byId("caption").textContent =
      concept === null || this.description?.num_concepts === 1 ? "" : `Concept ${concept + 1}`;
  }

  /** @param {boolean} holding Show picture A instead of the result. */
  hold(holding) {
    if (holding === this.holding || !this.drawn) return;
    this.holding = holding;
    show(canvas("result"), holding ? (this.seen.a?.picture ?? null) : this.drawn);
    button("before").setAttribute("aria-pressed", String(holding));
    byId("caption").textContent = holding ? "Before: picture A" : "";
  }

  showEverything() {
    const input = /** @type {HTMLInputElement} */ (byId("everything"));
    const values = KINDS.flatMap((kind) => this.state?.edit.blend[kind] ?? []);
    if (document.activeElement !== input || values.some((value) => value !== values[0])) {
      input.value = String(values.reduce((sum, value) => sum + value, 0) / values.length);
    }
    input.style.setProperty("--at", String((Number(input.value) + 0.5) / 2));
  }

  // --- Edits

  /** Take the state as it is now for one to go back to, and draw it well. */
  commit() {
    if (!this.state) return;
    this.history.keep(this.state);
    this.showHistory();
    this.redraw();
  }

  showHistory() {
    if (!this.state) return;
    button("undo").disabled = !this.history.canUndo;
    button("redo").disabled = !this.history.canRedo;
    button("reset").disabled = isNoEdit(this.state.edit);
    if (this.state.model !== OWN_FOLDER) window.history.replaceState(null, "", `#${toFragment(this.state)}`);
  }

  /** @param {import("./state.js").State | null} state */
  async goTo(state) {
    if (!state) return;
    await this.restore(state);
    this.showHistory();
    this.redraw();
  }

  /** @param {import("./codes.js").Edit} edit */
  setEdit(edit) {
    if (!this.state) return;
    this.state = { ...this.state, edit };
    this.cards.show(edit);
    this.commit();
  }

  get noEdit() {
    return noEdit(this.description?.num_concepts ?? 1, this.description?.basis ?? null);
  }

  async surprise() {
    if (!this.state || !this.description) return;
    const state = { ...this.state, edit: this.noEdit };
    const isExample = (/** @type {Source | null} */ source) => source !== null && "example" in source;
    if (this.examples.length > 2 && isExample(state.a) && isExample(state.b)) {
      const [a, b] = shuffled([...this.examples.keys()]);
      [state.a, state.b] = [{ example: a }, { example: b }];
    }
    const kinds = KINDS.slice(0, this.description.mask_dim === null ? 1 : 2);
    const slots = shuffled(kinds.flatMap((kind) => state.edit.blend[kind].map((_, n) => ({ kind, n }))));
    for (const { kind, n } of slots.slice(0, 1 + Math.floor(Math.random() * 3))) state.edit.blend[kind][n] = 1;
    await this.restore(state);
    this.commit();
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  async pickCell(row, column) {
    const sources = await this.gridSources();
    if (!this.state || !sources[row] || !sources[column]) return;
    const edit = this.noEdit;
    edit.blend.mask.fill(1);
    await this.restore({ ...this.state, a: sources[row], b: sources[column], edit });
    this.commit();
    find(document, ".stage").scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  /** The sources of the pictures in the grid. */
  async gridSources() {
    const entries = await Promise.all([...this.encoded].map(async ([key, seen]) => ({ key, seen: await seen })));
    return this.grid.entries.map(({ picture }) => {
      const entry = entries.find(({ seen }) => seen.picture === picture);
      return entry ? /** @type {Source} */ (JSON.parse(entry.key)) : null;
    });
  }

  async addToGrid(/** @type {import("./picker.js").Picked} */ picked) {
    try {
      this.others.push(await this.see(await this.toSource(picked)));
      this.showSides();
    } catch (error) {
      this.notice(errorMessage(error));
    }
  }

  // --- Taking along

  async copyLink() {
    this.showHistory();
    try {
      await navigator.clipboard.writeText(location.href);
      flash(button("link"), "Copied");
    } catch {
      this.notice("The link is in the address line: this browser does not let the page copy it.");
    }
  }

  savePng() {
    if (this.drawn) {
      const { canvas: large } = enlarge(this.drawn, PNG_WIDTH);
      large.toBlob((file) => file && download(file, "edited.png"));
    }
  }

  async saveGif() {
    const { a, b } = this.seen;
    if (!this.state || !this.description || !a) return;
    const edit = isNoEdit(this.state.edit) ? everything(this.noEdit, 1) : this.state.edit;
    button("gif").disabled = true;
    try {
      const pictures = [];
      for (let i = 0; i < GIF_PICTURES; i++) {
        const part = (1 - Math.cos((Math.PI * i) / (GIF_PICTURES - 1))) / 2;
        const codes = editCodes(a.codes, (b ?? a).codes, scaleEdit(edit, part), this.description.basis);
        const drawing = await this.client.cell(codes);
        if (!drawing) return;
        pictures.push(toPicture(drawing.values, this.size));
      }
      download(toGif(pictures), "edited.gif");
    } catch (error) {
      this.notice(errorMessage(error));
    } finally {
      button("gif").disabled = false;
    }
  }

  // --- Wiring

  /** @param {string | null} message null takes it away. */
  notice(message) {
    byId("notice").hidden = message === null;
    byId("notice").textContent = message;
  }

  wire() {
    for (const side of /** @type {Side[]} */ (["a", "b"])) {
      const title = `Choose picture ${side.toUpperCase()}`;
      byId(`side-${side}`).addEventListener("click", () =>
        this.picker.open(title, (picked) => this.take(side, picked)),
      );
    }
    this.wireDrops();
    this.wireToolbar();
    this.wireKeys();
    this.wireModels();
    const everythingInput = /** @type {HTMLInputElement} */ (byId("everything"));
    everythingInput.addEventListener("input", () => {
      if (!this.state) return;
      everything(this.state.edit, Number(everythingInput.value));
      this.cards.show(this.state.edit);
      this.preview();
    });
    everythingInput.addEventListener("change", () => this.commit());
    const result = canvas("result");
    result.addEventListener("pointermove", (event) => this.pointAt(event));
    result.addEventListener("pointerleave", () => this.highlight(null));
  }

  /** @param {PointerEvent} event */
  pointAt(event) {
    if (!this.masks || this.holding || event.pointerType === "touch") return;
    const box = canvas("result").getBoundingClientRect();
    const at = (/** @type {number} */ part) => Math.min(this.size - 1, Math.max(0, Math.floor(part * this.size)));
    const [x, y] = [at((event.clientX - box.left) / box.width), at((event.clientY - box.top) / box.height)];
    const concept = conceptAt(this.masks, y * this.size + x, this.description?.num_concepts ?? 1);
    if (concept !== this.lit) this.highlight(concept);
  }

  wireDrops() {
    for (const [id, side] of /** @type {[string, Side][]} */ ([
      ["side-a", "a"],
      ["side-b", "b"],
      ["result", "a"],
    ])) {
      const target = byId(id);
      target.addEventListener("dragenter", () => target.classList.add("over"));
      target.addEventListener("dragleave", () => target.classList.remove("over"));
      target.addEventListener("drop", (event) => {
        target.classList.remove("over");
        const file = event.dataTransfer?.files[0];
        if (file) this.take(side, { file, name: file.name });
      });
    }
    for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
  }

  wireToolbar() {
    button("surprise").addEventListener("click", () => this.surprise());
    button("undo").addEventListener("click", () => this.goTo(this.history.undo()));
    button("redo").addEventListener("click", () => this.goTo(this.history.redo()));
    button("reset").addEventListener("click", () => this.setEdit(this.noEdit));
    button("link").addEventListener("click", () => this.copyLink());
    button("png").addEventListener("click", () => this.savePng());
    button("gif").addEventListener("click", () => this.saveGif());
    button("add").addEventListener("click", () =>
      this.picker.open("Add a picture", (picked) => this.addToGrid(picked)),
    );
    const before = button("before");
    for (const type of ["pointerdown"]) before.addEventListener(type, () => this.hold(true));
    for (const type of ["pointerup", "pointerleave", "pointercancel", "blur"])
      before.addEventListener(type, () => this.hold(false));
    before.addEventListener("keydown", ({ key }) => (key === " " || key === "Enter") && this.hold(true));
    before.addEventListener("keyup", () => this.hold(false));
    before.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
  }

  wireKeys() {
    const isTyping = () => document.activeElement?.matches("select, input:not([type=range])");
    document.addEventListener("keydown", (event) => {
      const { key, ctrlKey, metaKey, shiftKey } = event;
      if (isTyping() || /** @type {HTMLDialogElement} */ (byId("picker")).open) return;
      if ((ctrlKey || metaKey) && key.toLowerCase() === "z") {
        event.preventDefault();
        this.goTo(shiftKey ? this.history.redo() : this.history.undo());
      } else if (!ctrlKey && !metaKey && key === "b") this.hold(true);
    });
    document.addEventListener("keyup", ({ key }) => key === "b" && this.hold(false));
  }

  wireModels() {
    const select = /** @type {HTMLSelectElement} */ (byId("model"));
    const folder = /** @type {HTMLInputElement} */ (byId("folder"));
    const open = async (/** @type {Parameters<Page["open"]>[0]} */ source) => {
      try {
        await this.open(source);
      } catch (error) {
        this.notice(errorMessage(error));
      }
    };
    select.addEventListener("change", () => {
      if (select.value !== OWN_FOLDER) return open({ folder: select.value });
      folder.value = "";
      return folder.click();
    });
    folder.addEventListener("change", () => folder.files?.length && open({ files: [...folder.files] }));
    folder.addEventListener("cancel", () => {
      select.value = this.state?.model ?? select.options[0].value;
    });
  }
}

/**
 * @param {string} dataUrl Of a picture in the link.
 * @param {number} size
 */
async function decode(dataUrl, size) {
  const image = new Image();
  image.src = dataUrl;
  await image.decode().catch(() => {
    throw new PictureError("A picture in this link cannot be read.");
  });
  return squarePicture(image, image.naturalWidth, image.naturalHeight, size);
}

/**
 * Blend everything alike, in place.
 *
 * @param {import("./codes.js").Edit} edit
 * @param {number} value
 */
function everything(edit, value) {
  for (const kind of KINDS) edit.blend[kind].fill(value);
  return edit;
}

/**
 * @template T
 * @param {T[]} items
 * @returns {T[]}
 */
function shuffled(items) {
  const keys = new Map(items.map((item) => [item, Math.random()]));
  return [...items].sort((a, b) => Number(keys.get(a)) - Number(keys.get(b)));
}

/**
 * @param {Blob} file
 * @param {string} name
 */
function download(file, name) {
  const href = URL.createObjectURL(file);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/**
 * @param {HTMLButtonElement} target
 * @param {string} text
 */
function flash(target, text) {
  const former = target.textContent;
  target.textContent = text;
  setTimeout(() => {
    target.textContent = former;
  }, 1500);
}

/** @param {boolean} busy Loading a model: the controls of the former one do nothing. */
function setBusy(busy) {
  find(document, "main").setAttribute("aria-busy", String(busy));
  for (const selector of [".between", ".below", ".right", ".swap"]) find(document, selector).inert = busy;
}

/** @param {unknown} error */
function errorMessage(error) {
  return error instanceof Error ? error.message : String(error);
}

const page = new Page();
page.start().catch((error) => {
  page.notice(errorMessage(error));
  setBusy(false);
});
