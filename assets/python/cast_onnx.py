"""Casts an ONNX model to FP16 with AutoCast of NVIDIA's ModelOpt; its inputs and outputs stay what they are.

TensorRT from 11.0 on computes each layer in the type that the model gives it: trtexec has no --fp16 any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable, List, Tuple, Union

import onnx
from google.protobuf.message import DecodeError  # onnx is built on it

from program import Facts, Parser, Problem, run

# What NVIDIA's parsers of the ONNX format read, from TensorRT 8.0 (13) to 10.9 (22).
OPSETS = range(13, 23)

# The share of the weights, by their count, that must be FP16. ResNet50 cast whole has 1.0; AutoCast leaves in FP32 what
# it finds too large for FP16, and a model of which it left a tenth would not be the fp16 that was asked for.
FLOOR = 0.9

Tensor = Tuple[str, int, List[Union[str, int]]]  # name, type, dimensions


def autocast() -> Callable[..., onnx.ModelProto]:
    """Returns AutoCast, which NVIDIA's PyTorch images hold."""
    try:
        from modelopt.onnx.autocast import convert_to_mixed_precision  # noqa: PLC0415 - not in every image
    except ImportError as error:
        raise Problem(
            "this image cannot cast to fp16: it has no AutoCast (modelopt.onnx.autocast), or not what that needs "
            f"({' '.join(str(error).split())}); use NVIDIA's PyTorch image of the release, or --precision fp32"
        ) from error
    return convert_to_mixed_precision


def tensors(values: Iterable[onnx.ValueInfoProto]) -> list[Tensor]:
    """Returns what is known of a graph's inputs or outputs."""
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def opset(model: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own operators that the model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def half_share(model: onnx.ModelProto) -> float:
    """Returns the share of the model's floating-point weights that are FP16, from 0 to 1."""
    counts = {onnx.TensorProto.FLOAT16: 0, onnx.TensorProto.FLOAT: 0}
    for weights in model.graph.initializer:
        if weights.data_type in counts:
            count = 1
            for dim in weights.dims:
                count *= dim
            counts[weights.data_type] += count
    total = sum(counts.values())
    return counts[onnx.TensorProto.FLOAT16] / total if total else 0.0


def check(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """Validates what AutoCast made of a model, and returns its share of FP16 weights."""
    onnx.checker.check_model(after)
    for what in ("input", "output"):
        want, got = tensors(getattr(before.graph, what)), tensors(getattr(after.graph, what))
        if got != want or any(kind != onnx.TensorProto.FLOAT for _, kind, _ in got):
            raise RuntimeError(f"AutoCast made the {what} {got} of {want}, want the same in FP32")
    if opset(after) not in OPSETS:
        raise RuntimeError(f"AutoCast wrote opset {opset(after)}, want {OPSETS[0]} to {OPSETS[-1]}")
    share = half_share(after)
    if share < FLOOR:
        raise Problem(
            f"AutoCast left {100 * (1 - share):.1f} % of the weights in FP32: their values, or what they make, are "
            "too large for fp16; use --precision fp32, or other weights"
        )
    return share


def parse() -> Parser:
    """Returns the parser of this script's arguments."""
    parser = Parser(description="Cast an ONNX model to FP16, with inputs and outputs in FP32.")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="ONNX file to read")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="ONNX file to write")
    return parser


def main() -> Facts:
    """Writes the cast model and returns what it was made with."""
    args = parse().parse_args()
    convert = autocast()
    try:
        before = onnx.load(str(args.model))
    except DecodeError as error:
        raise Problem(f"{args.model} is no ONNX model, or was cut: {error}") from error
    # On the CPU: which layers stay in FP32 must not depend on whether the container sees a GPU.
    after = convert(str(args.model), low_precision_type="fp16", keep_io_types=True, providers=["cpu"])
    share = check(before, after)
    content = after.SerializeToString(deterministic=True)
    args.output.write_bytes(content)
    import modelopt  # noqa: PLC0415 - AutoCast was found, so it is there

    return {
        "modelopt": modelopt.__version__,
        "onnx": onnx.__version__,
        "opset": opset(after),
        "fp16_weights": round(share, 4),
        "bytes": len(content),
    }


if __name__ == "__main__":
    run(main)
