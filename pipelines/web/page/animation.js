/** A GIF from A to the edited picture and back. */

import { enlarge } from "./images.js";
import { applyPalette, GIFEncoder, quantize } from "./vendor/gifenc.esm.js";

const WIDTH = 256;
const DELAY = 70; // milliseconds a picture
const REST = 600; // at both ends

/**
 * @param {ImageData[]} pictures From the first to the last; they are shown forth and back.
 * @returns {Blob}
 */
export function toGif(pictures) {
  const frames = [...pictures, ...pictures.slice(1, -1).reverse()];
  const encoder = GIFEncoder();
  frames.forEach((picture, i) => {
    const { canvas } = enlarge(picture, WIDTH);
    const { data } = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).getImageData(
      0,
      0,
      canvas.width,
      canvas.height,
    );
    const palette = quantize(data, 256);
    const delay = i === 0 || i === pictures.length - 1 ? REST : DELAY;
    encoder.writeFrame(applyPalette(data, palette), canvas.width, canvas.height, { palette, delay });
  });
  encoder.finish();
  return new Blob([encoder.bytes()], { type: "image/gif" });
}
