"""The commands of `fdae`: a new one is an entry here, and the function that it names."""

import os

from .inputs import InputFile, InputPath
from .parser import (
    ALL,
    KEEP_NOISE,
    MODEL_VARIABLE,
    Argument,
    Command,
    argument,
    concepts,
    count,
    images,
    index,
    minutes,
    model_flags,
    numbers,
    one_of,
    sampler_flags,
)


def _codes_of_donor(kind: str, what: str) -> Argument:
    text = f'concepts to take, as 1 or 0,2 or "{ALL}": {what}'
    return argument(f"--{kind}", action="extend", type=concepts, default=[], metavar="N[,N]", help=text)


IMAGE = argument("image", metavar="IMAGE", type=InputFile, help="the image to edit; - for an example of the model")
DONOR = argument("donor", metavar="DONOR", type=InputFile, help="the image that gives the codes; IMAGE is edited")

COMMANDS = (
    Command(
        "encode",
        "write the codes of images to a file",
        "cli.commands:encode",
        """\
  fdae encode - --output codes.safetensors      # the model's example pictures
  fdae reconstruct codes.safetensors
  fdae encode photos --model outputs/photos     # every picture of a folder

The file holds the tensors "content" (images, N, d_c) and "mask" (images, N, d_m), in the order of the images,
whose names are in its metadata under "images", as a JSON list.""",
        [images(), model_flags],
        output="codes.safetensors",
    ),
    Command(
        "masks",
        "draw where each concept of images is",
        "cli.commands:masks",
        """\
  fdae masks -                                  # the model's example pictures
  fdae masks a.png b.png --output masks.png

A row per image: the image as the model sees it, the mask of each concept (bright: there), and every pixel in the
colour of its strongest concept. The numbers above the columns are those that the other commands take.""",
        [images(), model_flags],
        output="masks.png",
    ),
    Command(
        "reconstruct",
        "encode images and decode them again",
        "cli.commands:reconstruct",
        """\
  fdae reconstruct - --num_inference_steps 40   # images above their reconstructions
  fdae reconstruct codes.safetensors            # pictures of codes that `fdae encode` wrote""",
        [
            images("image files, folders or patterns, or a file of codes; - for the model's examples"),
            model_flags,
            sampler_flags,
        ],
        output="reconstruct.png",
    ),
    Command(
        "swap",
        "give an image some codes of another one, the donor",
        "cli.commands:swap",
        """\
  fdae swap - -                                 # two examples of the model: every code swapped alone
  fdae swap a.png b.png --content 1             # a, with the content (colour, texture) of concept 1 of b
  fdae swap a.png b.png --mask 1,2              # a, with the masks (place, shape) of concepts 1 and 2 of b
  fdae swap a.png b.png --content all           # the masks of a filled with the content of b
  fdae swap a.png b.png --content 1 --keep_noise   # less grain: what no code holds stays as in a
  fdae swap a.png b.png --content 1 --output_format images --output result.jpg   # the edited picture alone""",
        [
            IMAGE,
            DONOR,
            _codes_of_donor("content", "what it is: colour, texture"),
            _codes_of_donor("mask", "where it is: place, shape"),
            KEEP_NOISE,
            model_flags,
            sampler_flags,
        ],
        output="swap.png",
    ),
    Command(
        "interpolate",
        "move codes of an image to those of another one, the donor, as an animation",
        "cli.commands:interpolate",
        """\
  fdae interpolate - -                          # two examples of the model, all codes
  fdae interpolate a.png b.png --mask 1         # only the mask of concept 1 moves
  fdae interpolate a.png b.png --num_images 5 --output row.png   # side by side""",
        [
            IMAGE,
            DONOR,
            _codes_of_donor("content", "what it is: colour, texture"),
            _codes_of_donor("mask", "where it is: place, shape"),
            argument("--num_images", type=count, default=16, help="from first to last (default: %(default)s)"),
            KEEP_NOISE,
            model_flags,
            sampler_flags,
        ],
        output="interpolate.gif",
        about="""\
Move codes of an image to those of another one, the donor: those that are named, or all. Each picture is a step of the
way; all start from the same noise.""",
    ),
    Command(
        "grid",
        "combine the content of each image with the masks of each",
        "cli.commands:grid",
        """\
  fdae grid -                                   # the model's example pictures
  fdae grid a.png b.png c.png                   # 3 x 3 pictures

Each row has the content of the image on its left, each column the masks of the image above.""",
        [images(), model_flags, sampler_flags],
        output="grid.png",
    ),
    Command(
        "traverse",
        "move one code of an image along its principal components",
        "cli.commands:traverse",
        """\
  fdae traverse - --content 1                   # a row per principal component of the content code of concept 1
  fdae traverse - --mask 1 --component 0 --values -3,-1.5,0,1.5,3 --output traverse.gif

Values are standard deviations from the mean of the data. The components are those in the model's folder;
training/fit_basis.py computes them.""",
        [
            IMAGE,
            one_of(
                argument("--content", type=index, metavar="N", help="concept whose content code moves"),
                argument("--mask", type=index, metavar="N", help="concept whose mask code moves"),
            ),
            argument("--component", type=index, metavar="K", help="0 for the strongest (default: each in a row)"),
            argument(
                "--values",
                type=numbers,
                default="-2,-1,0,1,2",
                metavar="V[,V]",
                help="where it goes (default: %(default)s)",
            ),
            KEEP_NOISE,
            model_flags,
            sampler_flags,
        ],
        output="traverse.png",
    ),
    Command(
        "check",
        "say how healthy a model is on images, and which images are unlike its own",
        "cli.check:check",
        """\
  fdae check photos                             # all images of a folder
  fdae check a.png b.png c.png
  fdae check photos --output photos-health.json

Prints how well the images are reconstructed, how crisp the masks are, which concepts are alive and what swapped codes
change, with a line of advice for whatever is off; no labels are needed. Where the model's folder has health.json, as
every training writes it, images that come out far worse than the model's own are named.""",
        [
            argument(
                "images", nargs="+", metavar="IMAGE_OR_FOLDER", type=InputPath, help="image files, or folders of them"
            ),
            argument("--num_images", type=count, default=256, help="at most, drawn at random (default: %(default)s)"),
            argument("--output", metavar="FILE", help="also write the numbers to this JSON file"),
            argument("--overwrite", action="store_true", help="replace the output if it exists already"),
            model_flags,
        ],
    ),
    Command(
        "demo",
        "draw everything that a model can do with a few images",
        "cli.demo:demo",
        """\
  fdae demo                                     # the model that comes with the package, on images that it knows
  fdae demo a.png b.png c.png --model outputs/photos --output_dir pictures
  fdae demo --dataset data/cars3d --num_images 8 --model outputs/cars3d

Writes masks.png, reconstructions.png, swap_grid.png, single_swaps.png and, if the model's folder has components,
traversal.png.""",
        [
            images("image files (default: some of the data set)", nargs="*"),
            argument("--dataset", metavar="NAME", help="data set: built in, a folder or on the Hub"),
            argument("--num_images", type=count, default=5, help="taken from the data set (default: %(default)s)"),
            argument("--output_dir", default="outputs/demo", help="folder of the pictures (default: %(default)s)"),
            argument("--overwrite", action="store_true", help="replace pictures in that folder"),
            model_flags,
            sampler_flags,
        ],
    ),
    Command(
        "app",
        "open a web page to swap codes between pictures",
        "cli.app:app",
        """\
  fdae app                                      # the model that comes with the package
  fdae app --model outputs/photos --port 8080   # your own, with pictures of its training

Needs gradio: pip install "fdae-diffusers[space]". Ctrl-C stops it.""",
        [
            argument(
                "--host", default="127.0.0.1", help="0.0.0.0 to be seen from other machines (default: %(default)s)"
            ),
            argument("--port", type=count, default=7860, help="(default: %(default)s)"),
            argument("--model", default=os.environ.get(MODEL_VARIABLE), help="folder, Hub id or name of a model"),
        ],
    ),
    Command(
        "train",
        "train a model of your own pictures",
        "cli.train:train_command",
        """\
  fdae train photos --minutes 20                # a folder, with sub-folders; the model goes to outputs/photos
  fdae train photos --minutes 60 --resolution 128 --num_concepts 2 --fit pad
  fdae train --config quickstart                # a training configuration that comes with the package, or a YAML file

Every setting of a training is a flag too (--all_flags lists them), and stays as given: --preset, --max_train_steps ...
Ctrl-C stops with a checkpoint.""",
        [
            argument("--minutes", type=minutes, metavar="M", help="how long it may take (default: 20)"),
            argument("--resolution", type=count, metavar="S", help="pixels of a side (default: what the time allows)"),
            argument(
                "--fit",
                choices=("crop", "pad"),
                default="crop",
                help="pictures that are not square: cut the centre out, or add bars (default: %(default)s)",
            ),
            argument("--output_dir", help="folder of the model (default: outputs/NAME_OF_THE_FOLDER)"),
            argument("--overwrite", action="store_true", help="replace a model in that folder"),
            argument("--all_flags", action="store_true", help="list every setting of a training"),
        ],
        about="""\
Train a model of your own pictures: any folder with some hundred pictures or more of one kind. Looks at the machine,
tries a few steps, chooses size, batch and number of steps for the time, and tells all of it before it begins.""",
        needs_model=False,
        passes_flags=True,
        usage="fdae train [FOLDER] [--minutes M] [--resolution S] [--fit crop|pad] [--output_dir DIR] [FLAG ...]",
    ),
    Command(
        "evaluate",
        "score a model on a disentanglement benchmark",
        "evaluation.disentanglement:evaluate",
        """\
  fdae evaluate --model outputs/quickstart --dataset shapes3d-rendered    # DCI, FactorVAE score, MIG, self-MIG
  fdae evaluate --model outputs/cars3d --dataset cars3d --dataset_path data/cars3d --metrics dci mig""",
        config="evaluation.disentanglement:EvaluationConfig",
        about="""\
Score a model on a disentanglement benchmark: how well its codes tell the factors of the images apart.

Encodes each image of the benchmark once, prints a table and writes all of it to metrics.json in the model's folder;
one that is there already is replaced only with --overwrite. Flags may stand in a YAML file, --config.""",
    ),
    Command(
        "export",
        "write a model as ONNX, for the browser and for machines without torch",
        "export.onnx:export",
        """\
  fdae export --output_dir outputs/onnx/rooms
  fdae export --model outputs/mine --output_dir outputs/onnx/mine --examples_dir photos --precision fp16""",
        config="export.onnx:ExportConfig",
        about="""\
Write encoder, mask decoder and U-Net of a model as ONNX, with a description and a program that runs them with numpy
and onnxruntime alone.

Compares the result with torch, prints the errors, and writes nothing if one is above its bound. pipelines/web makes a
page of such folders.""",
    ),
)
