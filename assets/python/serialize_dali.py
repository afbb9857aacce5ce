"""Writes a recipe's preprocessing as a serialized DALI pipeline: encoded picture in, FP32 [3,SIZE,SIZE] out."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

from nvidia import dali
from nvidia.dali import backend, fn, math, types

from program import Facts, Parser, Problem, run

# Triton's model configuration uses the same name, which is the tutorial's.
INPUT = "DALI_INPUT_0"

# Nothing in the pipeline is random; DALI writes a seed into the file all the same, a new one each time unless given.
SEED = 1

DECODERS = {"cpu": "cpu", "gpu": "mixed"}

# Names among DALI's operators, by which their schemas are found: releases differ in the arguments that they have.
DECODER = "decoders__Image"
SHAPE = "PeekImageShape"

# Lets it turn pictures as their EXIF orientation says. Releases of DALI have it, lost it and have it again, on by
# default. A file may have two orientations that disagree, and then nvImageCodec plans its output by one and decodes by
# the other, beyond the end of it (docs/adr/0011-orientation-is-off.md).
ORIENTATION = "adjust_orientation"

# Of a batch, the share that the GPU's JPEG engine takes, and the size of a picture for which that engine allocates
# ahead. DALI ignores both where a GPU has no such engine.
LOAD = "hw_decoder_load"
WIDTH, HEIGHT = "preallocate_width_hint", "preallocate_height_hint"

MAX_SIDE = 65535  # of a JPEG, in pixels


class Preprocessing(NamedTuple):
    """How a picture becomes the network's input.

    The arithmetic is this file's own on purpose: reference.py has the other one, and a slip that both shared would be
    in no comparison of the two.
    """

    size: int  # of each side of the input, in pixels
    short_side: int | None  # resize to it and crop the middle; else the picture is stretched
    mean: list[float]  # of red, green and blue, in 0..1
    std: list[float]

    def fit(self, encoded: Any, pictures: Any) -> Any:  # noqa: ANN401 - DALI's nodes have no type
        """Returns decoded pictures resized.

        Triangular: linear, with its filter widened when a picture shrinks. It is what newer DALI means by its default,
        and it keeps old releases, whose default reads single pixels, equal to the reference. Both sides are said in
        whole pixels: of a shorter side alone DALI keeps the exact ratio, and shows a part of a pixel less or more.
        """
        if self.short_side is None:
            return fn.resize(pictures, resize_x=self.size, resize_y=self.size, interp_type=types.INTERP_TRIANGULAR)
        known = backend.GetSchema(SHAPE).GetArgumentNames()
        shape = fn.peek_image_shape(encoded, **{name: False for name in (ORIENTATION,) if name in known})
        height, width = shape[0], shape[1]
        shorter = math.min(height, width)
        sides = {
            name: fn.cast(side * self.short_side // shorter, dtype=types.FLOAT)
            for name, side in (("resize_y", height), ("resize_x", width))
        }
        return fn.resize(pictures, interp_type=types.INTERP_TRIANGULAR, **sides)

    def normalize(self, pictures: Any) -> Any:  # noqa: ANN401
        """Returns the middle of the resized pictures as normalized planes."""
        return fn.crop_mirror_normalize(
            pictures,
            dtype=types.FLOAT,
            output_layout="CHW",
            crop=(self.size, self.size),
            mean=[value * 255 for value in self.mean],
            std=[value * 255 for value in self.std],
        )


class Hardware(NamedTuple):
    """What the GPU's JPEG engine is told."""

    load: float  # 0 to 1
    width: int  # pixels of a typical picture
    height: int


def options(hardware: Hardware | None) -> dict[str, Any]:
    """Returns the decoder's options: of those that are wanted, the ones that this DALI's decoder has."""
    wanted: dict[str, Any] = {ORIENTATION: False}
    if hardware is not None:
        wanted.update({LOAD: hardware.load, WIDTH: hardware.width, HEIGHT: hardware.height})
    known = backend.GetSchema(DECODER).GetArgumentNames()
    return {name: value for name, value in wanted.items() if name in known}


def serialize(
    preprocessing: Preprocessing, device: str, max_batch: int, threads: int, decoder: dict[str, Any]
) -> bytes:
    """Returns the serialized pipeline.

    Args:
        preprocessing: what is done to a decoded picture.
        device: "gpu" decodes and resizes on GPU 0; "cpu" needs neither GPU nor driver, now or when it is served.
        max_batch: the largest batch; Triton's max_batch_size overrides it.
        threads: CPU threads of the pipeline.
        decoder: options of the decoder.
    """
    pipe = dali.Pipeline(batch_size=max_batch, num_threads=threads, device_id=0 if device == "gpu" else None, seed=SEED)
    with pipe:
        encoded = fn.external_source(device="cpu", name=INPUT)
        pictures = fn.decoders.image(encoded, device=DECODERS[device], output_type=types.RGB, **decoder)
        tensors = preprocessing.normalize(preprocessing.fit(encoded, pictures))
        pipe.set_outputs(tensors)
    return pipe.serialize()


def require_driver() -> None:
    """Raises a Problem if this container has no NVIDIA driver: DALI's own assertion comes with a traceback."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Problem(
            "a DALI pipeline for the GPU needs the NVIDIA driver, which this container does not have: "
            "start it with GPUs, or use --device cpu (dalirun: --accel cpu)"
        ) from error


def picture_size(text: str) -> tuple[int, int]:
    """Returns width and height of a size that is written as 600x400."""
    width, _, height = text.partition("x")
    sides = int(width), int(height)
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(text)
    return sides


def channels(text: str) -> list[float]:
    """Returns a figure for each of red, green and blue, written as 0.485,0.456,0.406."""
    values = [float(value) for value in text.split(",")]
    if len(values) != 3:  # noqa: PLR2004 - red, green and blue
        raise ValueError(text)
    return values


def parse() -> Parser:
    """Returns the parser of this script's arguments."""
    parser = Parser(description="Serialize the DALI preprocessing pipeline.")
    parser.add_argument("--size", type=int, required=True, metavar="PIXELS", help="of each side of the output")
    parser.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="resize to it and crop the middle; else they are stretched"
    )
    parser.add_argument("--mean", type=channels, required=True, metavar="R,G,B", help="of pictures in 0..1")
    parser.add_argument("--std", type=channels, required=True, metavar="R,G,B", help="of pictures in 0..1")
    parser.add_argument("--device", choices=sorted(DECODERS), required=True, help="where it will run")
    parser.add_argument("--max-batch", type=int, required=True, metavar="N", help="largest batch, at least 1")
    parser.add_argument("--threads", type=int, required=True, metavar="T", help="CPU threads, at least 1")
    parser.add_argument("--hw-decoder-load", type=float, metavar="SHARE", help="of the JPEG engine, 0 to 1 (gpu)")
    parser.add_argument("--picture-size", type=picture_size, metavar="WxH", help="typical one, in pixels (gpu)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write (model.dali)")
    return parser


def main() -> Facts:
    """Writes the pipeline and returns what it was made with."""
    parser = parse()
    args = parser.parse_args()
    for name, value in (("--max-batch", args.max_batch), ("--threads", args.threads)):
        if value < 1:
            parser.error(f"{name} is {value}, want at least 1")
    hardware = None
    if args.device == "gpu":
        if args.hw_decoder_load is None or args.picture_size is None:
            parser.error("--device gpu needs --hw-decoder-load and --picture-size")
        if not 0 <= args.hw_decoder_load <= 1:
            parser.error(f"--hw-decoder-load is {args.hw_decoder_load}, want 0 to 1")
        hardware = Hardware(args.hw_decoder_load, *args.picture_size)
        require_driver()
    decoder = options(hardware)
    preprocessing = Preprocessing(args.size, args.short_side, args.mean, args.std)
    content = serialize(preprocessing, args.device, args.max_batch, args.threads, decoder)
    args.output.write_bytes(content)
    facts: Facts = {
        "dali": dali.__version__,
        "device": args.device,
        "bytes": len(content),
        ORIENTATION: "off" if ORIENTATION in decoder else "this DALI has none",
    }
    if hardware is not None:
        for name in (LOAD, WIDTH, HEIGHT):
            facts[name] = decoder.get(name, "this DALI has none")
    return facts


if __name__ == "__main__":
    run(main)
