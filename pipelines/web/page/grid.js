/** The swap grid: the content of each picture with the masks of each, drawn one by one when nothing else is to do. */

import { element } from "./controls.js";
import { show, toPicture } from "./images.js";

/** @typedef {{ picture: ImageData, codes: import("./codes.js").Codes }} Entry */

export class SwapGrid {
  /**
   * @param {HTMLElement} root
   * @param {import("./client.js").ModelClient} client
   * @param {(row: number, column: number) => void} onPick
   */
  constructor(root, client, onPick) {
    this.root = root;
    this.client = client;
    this.onPick = onPick;
    this.version = 0;
    this.visible = false;
    /** @type {Entry[]} */
    this.entries = [];
    this.dirty = false;
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.visible = isIntersecting;
      if (isIntersecting && this.dirty) this.#draw();
    }).observe(root);
  }

  /** @param {Entry[]} entries */
  show(entries) {
    const isSame = entries.length === this.entries.length && entries.every((entry, i) => entry === this.entries[i]);
    if (isSame) return;
    this.entries = entries;
    this.version++;
    this.dirty = true;
    this.#layOut();
    if (this.visible) this.#draw();
  }

  #layOut() {
    const heading = (/** @type {Entry} */ { picture }, /** @type {string} */ label) => {
      const canvas = element("canvas", { className: "heading" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", label);
      show(canvas, picture);
      return canvas;
    };
    this.root.style.setProperty("--columns", String(this.entries.length + 1));
    const corner = element("span", { className: "corner", ariaHidden: "true" }, "what ↓ where →");
    const columns = this.entries.map((entry, i) => heading(entry, `Masks of picture ${i + 1}`));
    const rows = this.entries.flatMap((entry, row) => [
      heading(entry, `Content of picture ${row + 1}`),
      ...this.entries.map((_, column) => {
        const button = element("button", { type: "button", className: "cell" }, element("canvas", {}));
        button.setAttribute("aria-label", `Content of picture ${row + 1}, masks of picture ${column + 1}: edit it`);
        button.addEventListener("click", () => this.onPick(row, column));
        return button;
      }),
    ]);
    this.root.replaceChildren(corner, ...columns, ...rows);
  }

  async #draw() {
    this.dirty = false;
    const version = this.version;
    const cells = /** @type {NodeListOf<HTMLCanvasElement>} */ (this.root.querySelectorAll(".cell canvas"));
    let i = 0;
    for (const row of this.entries) {
      for (const column of this.entries) {
        const drawing = await this.client
          .cell({ content: row.codes.content, mask: column.codes.mask })
          .catch(() => null);
        if (version !== this.version || !drawing) return;
        show(cells[i], toPicture(drawing.values, row.picture.width));
        cells[i].parentElement?.classList.add("drawn");
        i++;
      }
    }
  }
}
