// What build_page.py copies to page/vendor.
declare module "*/vendor/ort.wasm.min.mjs" {
  export * from "onnxruntime-web";
}
declare module "*/vendor/gifenc.esm.js" {
  type Palette = number[][];
  export function quantize(rgba: Uint8ClampedArray, maxColors: number): Palette;
  export function applyPalette(rgba: Uint8ClampedArray, palette: Palette): Uint8Array;
  export function GIFEncoder(): {
    writeFrame(index: Uint8Array, width: number, height: number, options: { palette: Palette; delay?: number }): void;
    finish(): void;
    bytes(): Uint8Array<ArrayBuffer>;
  };
}
