/** The dialog that asks for a picture: an example, a file, or the camera. */

import { element } from "./controls.js";
import { show } from "./images.js";

/** @typedef {{ example: number } | { file: Blob, name: string }} Picked */

export class Picker {
  /** @param {HTMLDialogElement} dialog With .examples, .file, .camera, video and .shutter. */
  constructor(dialog) {
    this.dialog = dialog;
    this.examples = find(dialog, ".examples");
    this.file = /** @type {HTMLInputElement} */ (find(dialog, ".file"));
    this.camera = /** @type {HTMLButtonElement} */ (find(dialog, ".camera"));
    this.video = /** @type {HTMLVideoElement} */ (find(dialog, "video"));
    this.shutter = /** @type {HTMLButtonElement} */ (find(dialog, ".shutter"));
    this.error = find(dialog, ".error");
    /** @type {(picked: Picked) => void} */
    this.onPick = () => {};
    this.camera.hidden = !navigator.mediaDevices?.getUserMedia;
    this.file.addEventListener("change", () => {
      const file = this.file.files?.[0];
      if (file) this.#pick({ file, name: file.name });
    });
    this.camera.addEventListener("click", () => this.#openCamera());
    this.shutter.addEventListener("click", () => this.#photograph());
    dialog.addEventListener("close", () => this.#closeCamera());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside it
    });
  }

  /** @param {ImageData[]} pictures */
  showExamples(pictures) {
    this.examples.replaceChildren(
      ...pictures.map((picture, example) => {
        const canvas = element("canvas", {});
        show(canvas, picture);
        const button = element("button", { type: "button" }, canvas);
        button.setAttribute("aria-label", `Example ${example + 1}`);
        button.addEventListener("click", () => this.#pick({ example }));
        return button;
      }),
    );
  }

  /**
   * @param {string} title
   * @param {(picked: Picked) => void} onPick
   */
  open(title, onPick) {
    find(this.dialog, "h2").textContent = title;
    this.onPick = onPick;
    this.file.value = "";
    this.error.textContent = "";
    this.dialog.showModal();
  }

  /** @param {Picked} picked */
  #pick(picked) {
    this.dialog.close();
    this.onPick(picked);
  }

  async #openCamera() {
    try {
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
      [this.video.hidden, this.shutter.hidden, this.camera.hidden] = [false, false, true];
      await this.video.play();
    } catch {
      this.error.textContent = "The camera cannot be used: the browser or its settings do not allow it.";
    }
  }

  #photograph() {
    const canvas = element("canvas", { width: this.video.videoWidth, height: this.video.videoHeight });
    canvas.getContext("2d")?.drawImage(this.video, 0, 0);
    canvas.toBlob((file) => {
      if (file) this.#pick({ file, name: "The photograph" });
    });
  }

  #closeCamera() {
    for (const track of /** @type {MediaStream | null} */ (this.video.srcObject)?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
    [this.video.hidden, this.shutter.hidden] = [true, true];
    this.camera.hidden = !navigator.mediaDevices?.getUserMedia;
  }
}

/**
 * @param {ParentNode} root
 * @param {string} selector
 */
export function find(root, selector) {
  return /** @type {HTMLElement} */ (root.querySelector(selector));
}
