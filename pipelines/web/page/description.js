/** What an exported model says of itself, and where its files come from. */

/**
 * @typedef {object} Description The model.json of fdae_diffusers/export.
 * @property {string} format
 * @property {number} format_version
 * @property {string} title
 * @property {string | null} knows
 * @property {number} sample_size
 * @property {number} in_channels
 * @property {number} num_concepts
 * @property {number} content_dim
 * @property {number | null} mask_dim
 * @property {number} sigma_data
 * @property {import("./sampler.js").Sampler} sampler
 * @property {Record<Part, { name: string, bytes: number, sha256: string }>} files
 * @property {import("./codes.js").Basis | null} basis
 * @property {string[]} examples
 * @property {{ typical: number, foreign_below: number } | null} reconstruction_psnr
 */

/** @typedef {"encoder" | "decoder" | "unet"} Part */
/** @typedef {(name: string) => Promise<ArrayBuffer>} Reader Reads a file of the model's folder. */
/** @typedef {{ folder?: string, files?: File[] }} ModelSource A folder of the server, or files that the visitor picked. */

const FORMAT = "fdae-onnx";
const FORMAT_VERSION = 1;

/** A message for the visitor, without a program's words. */
export class ModelError extends Error {}

/**
 * @param {ModelSource} source
 * @returns {Reader}
 */
export function modelReader({ folder, files }) {
  return files ? filesReader(files) : serverReader(folder ?? "");
}

/**
 * Read files from a folder of the server.
 *
 * @param {string} folder
 * @returns {Reader}
 */
function serverReader(folder) {
  return async (name) => {
    const response = await fetch(`${folder}/${name}`).catch(() => null);
    if (!response?.ok) throw new ModelError(`The model's file ${name} cannot be fetched: reload the page.`);
    return response.arrayBuffer();
  };
}

/**
 * Read files that the visitor picked.
 *
 * @param {File[]} files
 * @returns {Reader}
 */
function filesReader(files) {
  return async (name) => {
    const paths = (/** @type {File} */ file) => file.webkitRelativePath || file.name;
    const file =
      files.find((candidate) => paths(candidate).endsWith(`/${name}`)) ??
      files.find((candidate) => candidate.name === name.split("/").at(-1));
    if (!file)
      throw new ModelError(`There is no ${name} among these files: pick the whole folder of an exported model.`);
    return file.arrayBuffer();
  };
}

/**
 * Read and check a model.json.
 *
 * @param {Reader} read
 * @returns {Promise<Description>}
 */
export async function readDescription(read) {
  const bytes = await read("model.json");
  let description;
  try {
    description = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new ModelError("The model.json is damaged: export the model again.");
  }
  if (description?.format !== FORMAT) throw new ModelError("The model.json describes no exported model.");
  if (description.format_version !== FORMAT_VERSION) {
    throw new ModelError(
      `This model is of format version ${description.format_version}, the page reads version ${FORMAT_VERSION}: ` +
        "export the model again.",
    );
  }
  return description;
}
