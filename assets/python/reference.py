"""Answers a picture with PyTorch alone, in fp32: what DALI, the engine and the server are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

import network
from picture import decode
from program import Facts, Parser, run


def fit(picture: Image.Image, size: int, short_side: int | None) -> Image.Image:
    """Returns the picture as a square of the network's size.

    Without a short side the picture is stretched, whatever shape it has. With one it is resized so that its shorter
    side has that many pixels, the longer one rounded down as by torchvision, and the middle is cut out of it; an odd
    rest is cut off the begin, as by DALI. Pillow's BILINEAR widens
    its triangular filter when it shrinks a picture, as DALI's does.
    """
    if short_side is None:
        return picture.resize((size, size), Image.BILINEAR)
    shorter = min(picture.size)
    width, height = (side * short_side // shorter for side in picture.size)
    left, top = (width - size + 1) // 2, (height - size + 1) // 2
    return picture.resize((width, height), Image.BILINEAR).crop((left, top, left + size, top + size))


def tensor_of(picture: Image.Image) -> torch.Tensor:
    """Returns the picture as [1,3,H,W] FP32 in 0..1."""
    pixels = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return torch.from_numpy(pixels[np.newaxis])


def parse() -> Parser:
    """Returns the parser of this script's arguments."""
    parser = Parser(description="Preprocess and classify a picture with PyTorch.")
    network.add_arguments(parser)
    network.add_normalization(parser)
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="resize to it and crop the middle; else it is stretched",
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="checkpoint to read")
    parser.add_argument("--trusted", action="store_true", help="its content is known: also for PyTorch before 1.13")
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="picture to classify")
    parser.add_argument(
        "--output-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="where tensor.f32 (3xSIZExSIZE) and logits.f32 (CLASSES) go: little-endian float32, no header",
    )
    return parser


def main() -> Facts:
    """Writes the tensor and the logits and returns a summary of both."""
    args = parse().parse_args()
    picture, warnings = decode(args.image)  # first: it takes a moment, the weights take seconds
    tensor = network.normalize(tensor_of(fit(picture, args.size, args.short_side)), args.mean, args.std)
    model = network.load(network.recipe(args), args.weights, trusted=args.trusted)
    with torch.no_grad():
        logits = model(tensor)[0]
    for name, value in (("tensor.f32", tensor), ("logits.f32", logits)):
        (args.output_dir / name).write_bytes(value.numpy().astype("<f4").tobytes())
    return {
        **network.versions(),
        "pillow": PIL.__version__,
        "jpeg_warnings": warnings,
        "width": picture.width,
        "height": picture.height,
        "top1": int(logits.argmax()),
        "logits_max_abs": float(logits.abs().max()),
        "logits_std": float(logits.std()),
    }


if __name__ == "__main__":
    run(main)
