/** Pictures: read any file as the model sees it, show values and masks on canvases. */

const LARGEST_SIDE = 1024; // larger squares are halved by the browser first
const LANCZOS_SUPPORT = 3;

/** A picture that cannot be read; the message is for the visitor. */
export class PictureError extends Error {}

/**
 * Read a picture: crop the square at its centre, resize it, put transparent parts on white.
 *
 * @param {Blob} file
 * @param {number} size
 * @param {string} name For the message.
 * @returns {Promise<ImageData>} size x size
 */
export async function readPicture(file, size, name) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new PictureError(`${name} is no picture that this browser can read: try a PNG, JPEG or WebP file.`);
  });
  const picture = squarePicture(bitmap, bitmap.width, bitmap.height, size);
  bitmap.close();
  return picture;
}

/**
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 * @param {number} size
 */
export function squarePicture(source, width, height, size) {
  const side = Math.min(width, height);
  const drawn = side === size ? size : Math.min(side, LARGEST_SIDE);
  const context = newContext(drawn, drawn);
  context.fillStyle = "white";
  context.fillRect(0, 0, drawn, drawn);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, (width - side) / 2, (height - side) / 2, side, side, 0, 0, drawn, drawn);
  return resize(context.getImageData(0, 0, drawn, drawn), size);
}

/**
 * Resize a square picture with a Lanczos filter without aliasing, as Pillow does.
 *
 * @param {ImageData} picture
 * @param {number} size
 */
export function resize(picture, size) {
  if (picture.width === size) return picture;
  const taps = lanczosTaps(picture.width, size);
  const narrow = new Uint8ClampedArray(picture.height * size * 4); // rounded in between, as Pillow does
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < size; x++) {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (const [i, weight] of taps[x]) sum += weight * picture.data[(y * picture.width + i) * 4 + c];
        narrow[(y * size + x) * 4 + c] = sum;
      }
    }
  }
  const result = new ImageData(size, size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size * 4; x++) {
      let sum = 0;
      for (const [i, weight] of taps[y]) sum += weight * narrow[i * size * 4 + x];
      result.data[y * size * 4 + x] = sum; // clamped and rounded by the array
    }
  }
  return result;
}

/**
 * @param {number} from
 * @param {number} to
 * @returns {[number, number][][]} Of each pixel of the result, the pixels it is made of and their weights.
 */
function lanczosTaps(from, to) {
  const scale = from / to;
  const width = Math.max(scale, 1);
  const sinc = (/** @type {number} */ x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  return Array.from({ length: to }, (_, x) => {
    const center = (x + 0.5) * scale;
    const first = Math.max(0, Math.round(center - LANCZOS_SUPPORT * width));
    const last = Math.min(from, Math.round(center + LANCZOS_SUPPORT * width));
    /** @type {[number, number][]} */
    const taps = [];
    for (let i = first; i < last; i++) {
      const t = (i + 0.5 - center) / width;
      taps.push([i, Math.abs(t) < LANCZOS_SUPPORT ? sinc(t) * sinc(t / LANCZOS_SUPPORT) : 0]);
    }
    const sum = taps.reduce((total, [, weight]) => total + weight, 0);
    return taps.map(([i, weight]) => [i, weight / sum]);
  });
}

/** @param {ImageData} picture @returns {Float32Array} (3, H, W) in [-1, 1] */
export function toPixelValues({ data, width, height }) {
  const pixels = width * height;
  return Float32Array.from(
    { length: 3 * pixels },
    (_, i) => data[(i % pixels) * 4 + Math.floor(i / pixels)] / 127.5 - 1,
  );
}

/**
 * @param {Float32Array} values (3, H, W) in [-1, 1]
 * @param {number} size
 */
export function toPicture(values, size) {
  const picture = new ImageData(size, size);
  const pixels = size * size;
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) picture.data[i * 4 + c] = (values[c * pixels + i] + 1) * 127.5;
    picture.data[i * 4 + 3] = 255;
  }
  return picture;
}

/**
 * A picture of what a mask covers: the rest is transparent.
 *
 * @param {ImageData} picture
 * @param {Float32Array} masks (N, H, W)
 * @param {number} concept
 */
export function maskedPicture(picture, masks, concept) {
  const masked = new ImageData(new Uint8ClampedArray(picture.data), picture.width, picture.height);
  const pixels = picture.width * picture.height;
  for (let i = 0; i < pixels; i++) masked.data[i * 4 + 3] = 255 * masks[concept * pixels + i];
  return masked;
}

/**
 * A veil over all that a mask does not cover.
 *
 * @param {Float32Array} masks (N, H, W)
 * @param {number} concept
 * @param {number} size
 * @param {number} shade Grey level 0 to 255.
 */
export function veil(masks, concept, size, shade) {
  const picture = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    picture.data.fill(shade, i * 4, i * 4 + 3);
    picture.data[i * 4 + 3] = 215 * (1 - masks[concept * size * size + i]);
  }
  return picture;
}

/**
 * The strongest concept at a pixel.
 *
 * @param {Float32Array} masks (N, H, W)
 * @param {number} pixel
 * @param {number} numConcepts
 */
export function conceptAt(masks, pixel, numConcepts) {
  const pixels = masks.length / numConcepts;
  const strengths = Array.from({ length: numConcepts }, (_, n) => masks[n * pixels + pixel]);
  return strengths.indexOf(Math.max(...strengths));
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData | null} picture null clears it.
 */
export function show(canvas, picture) {
  if (picture && canvas.width !== picture.width) [canvas.width, canvas.height] = [picture.width, picture.height];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  if (picture) context.putImageData(picture, 0, 0);
  else context.clearRect(0, 0, canvas.width, canvas.height);
}

/**
 * Enlarge a picture by a whole factor, without smoothing.
 *
 * @param {ImageData} picture
 * @param {number} atLeast Width of the result.
 */
export function enlarge(picture, atLeast) {
  const factor = Math.max(1, Math.ceil(atLeast / picture.width));
  const small = newContext(picture.width, picture.height);
  small.putImageData(picture, 0, 0);
  const large = newContext(picture.width * factor, picture.height * factor);
  large.imageSmoothingEnabled = false;
  large.drawImage(small.canvas, 0, 0, large.canvas.width, large.canvas.height);
  return large;
}

/**
 * A small address that holds a picture.
 *
 * @param {ImageData} picture
 */
export function toDataUrl(picture) {
  const context = newContext(picture.width, picture.height);
  context.putImageData(picture, 0, 0);
  return context.canvas.toDataURL(); // PNG: a lossy format would blur colours of so few pixels
}

/**
 * @param {number} width
 * @param {number} height
 */
function newContext(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
}
