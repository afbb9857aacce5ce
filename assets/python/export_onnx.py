"""Exports a network to ONNX: input [batch,3,SIZE,SIZE] FP32, output [batch,CLASSES] FP32 (logits)."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import torch

import network
from program import Facts, Parser, run

# The tutorial's choice; the tracing exporter of every PyTorch from 1.10 on writes it, every TensorRT from 8.0 reads it.
OPSET = 13

INPUT = "input"
OUTPUT = "output"


def export(model: torch.nn.Module, size: int) -> bytes:
    """Returns the model as ONNX. Only the batch is dynamic: a fixed height and width give TensorRT simpler pooling."""
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        # The default since PyTorch 2.9: another graph, opset 18 at least, weights in a second file.
        options["dynamo"] = False
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        torch.zeros(1, 3, size, size),
        buffer,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        **options,
    )
    return buffer.getvalue()


def check(content: bytes, recipe: network.Recipe) -> str:
    """Validates the ONNX model and returns the checker's version; an empty one if the image has no checker."""
    try:
        import onnx  # noqa: PLC0415 - not in every image
    except ImportError:
        return ""
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model)
    for value, name, want in (
        (model.graph.input, INPUT, ["batch", 3, recipe.size, recipe.size]),
        (model.graph.output, OUTPUT, ["batch", recipe.classes]),
    ):
        got = [
            (tensor.name, [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim])
            for tensor in value
        ]
        if got != [(name, want)]:
            raise RuntimeError(f"the exporter wrote {got}, want {[(name, want)]}")
    return onnx.__version__


def parse() -> Parser:
    """Returns the parser of this script's arguments."""
    parser = Parser(description=f"Export a network to ONNX (opset {OPSET}, dynamic batch).")
    network.add_arguments(parser)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="checkpoint to read")
    parser.add_argument("--trusted", action="store_true", help="its content is known: also for PyTorch before 1.13")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="ONNX file to write")
    return parser


def main() -> Facts:
    """Writes the ONNX file and returns what it was made with."""
    args = parse().parse_args()
    recipe = network.recipe(args)
    content = export(network.load(recipe, args.weights, trusted=args.trusted), recipe.size)
    checker = check(content, recipe)
    args.output.write_bytes(content)
    return {**network.versions(), "opset": OPSET, "onnx_checker": checker, "bytes": len(content)}


if __name__ == "__main__":
    run(main)
