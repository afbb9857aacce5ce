"""Answers a picture with PyTorch alone, in fp32: what DALI, the engine and the server are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

import resnet50
from picture import decode
from program import Facts, Parser, run


def preprocess(picture: Image.Image) -> torch.Tensor:
    """Returns the picture as [1,3,224,224] FP32, resized without regard to its aspect ratio and normalized.

    Pillow's BILINEAR widens its triangular filter when it shrinks a picture, as DALI's does.
    """
    small = picture.resize((resnet50.SIZE, resnet50.SIZE), Image.BILINEAR)
    pixels = np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return resnet50.normalize(torch.from_numpy(pixels[np.newaxis]))


def parse() -> Parser:
    """Returns the parser of this script's arguments."""
    parser = Parser(description="Preprocess and classify a picture with PyTorch.")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="checkpoint to read")
    parser.add_argument("--trusted", action="store_true", help="its content is known: also for PyTorch before 1.13")
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="picture to classify")
    parser.add_argument(
        "--output-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="where tensor.f32 (3x224x224) and logits.f32 (1000) go: little-endian float32, no header",
    )
    return parser


def main() -> Facts:
    """Writes the tensor and the logits and returns a summary of both."""
    args = parse().parse_args()
    picture, warnings = decode(args.image)  # first: it takes a moment, the weights take seconds
    tensor = preprocess(picture)
    model = resnet50.load(args.weights, trusted=args.trusted)
    with torch.no_grad():
        logits = model(tensor)[0]
    for name, value in (("tensor.f32", tensor), ("logits.f32", logits)):
        (args.output_dir / name).write_bytes(value.numpy().astype("<f4").tobytes())
    return {
        **resnet50.versions(),
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
