"""Tests cast_onnx.py with the real ONNX and a ModelOpt that is made up here, which only NVIDIA's images have."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import types
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
from onnx import TensorProto, helper

import cast_onnx
from program import Facts, Problem, run

IN, OUT = 4, 10  # the sizes of the one layer
WEIGHTS = IN * OUT
OPSET = 13
OTHER_OPSET = 100  # of operators that are not ONNX's own


def linear(half: bool, **other: Any) -> onnx.ModelProto:
    """Returns a model of one layer in FP16 or FP32, and with other things than the usual ones."""
    opset, io_type = other.get("opset", OPSET), other.get("io_type", TensorProto.FLOAT)
    name, batch = other.get("name", "input"), other.get("batch", "batch")
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", [name], ["x"], to=kind),
        helper.make_node("MatMul", ["x", "fc.weight"], ["y"]),
        helper.make_node("Cast", ["y"], ["output"], to=io_type),
    ]
    weights = [helper.make_tensor("fc.weight", kind, [IN, OUT], [0.5] * WEIGHTS)]
    for index, (kind, count) in enumerate(other.get("more", [])):
        weights.append(helper.make_tensor(f"more.{index}", kind, [count], [1] * count))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, io_type, [batch, IN])],
        [helper.make_tensor_value_info("output", io_type, [batch, OUT])],
        weights,
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", OTHER_OPSET)]
    model = helper.make_model(graph, opset_imports=domains)
    model.ir_version = 7  # that of opset 13: what a newer helper writes by itself is not for every reader
    return model


class FakeAutoCast:
    """ModelOpt for the time of a test: it casts every model to the given one."""

    __version__ = "0.39.0"

    def __init__(self, cast: onnx.ModelProto) -> None:
        """Makes one whose answer is cast."""
        self.cast = cast
        self.calls: list[dict[str, Any]] = []

    def __call__(self, path: str, **options: Any) -> onnx.ModelProto:
        """Stands for convert_to_mixed_precision."""
        self.calls.append({"path": path, **options})
        return self.cast

    def modules(self) -> dict[str, types.ModuleType]:
        """Returns what `import modelopt.onnx.autocast` finds."""
        made = {name: types.ModuleType(name) for name in ("modelopt", "modelopt.onnx", "modelopt.onnx.autocast")}
        vars(made["modelopt"])["__version__"] = self.__version__
        vars(made["modelopt.onnx.autocast"])["convert_to_mixed_precision"] = self
        return made


class CastTest(unittest.TestCase):
    """The program as a whole: files, facts and errors."""

    def setUp(self) -> None:
        """Writes a model in FP32."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.model, self.output = self.folder / "model.onnx", self.folder / "cast.onnx"
        onnx.save(linear(half=False), str(self.model))

    def main(self) -> Facts:
        """Runs the program on the model."""
        with mock.patch.object(sys, "argv", ["cast_onnx.py", "--model", str(self.model), "--output", str(self.output)]):
            return cast_onnx.main()

    def cast(self, after: onnx.ModelProto) -> Facts:
        """Runs the program where AutoCast makes after of the model."""
        self.autocast = FakeAutoCast(after)
        with mock.patch.dict(sys.modules, self.autocast.modules()):
            return self.main()

    def refuses(self, error: type[Exception], words: str, after: onnx.ModelProto) -> None:
        """Checks that what AutoCast made is refused, and not written."""
        with self.assertRaisesRegex(error, words):
            self.cast(after)
        self.assertFalse(self.output.exists(), "it was written")

    def test_cast(self) -> None:
        after = linear(half=True)
        facts = self.cast(after)
        self.assertEqual(
            facts,
            {
                "modelopt": FakeAutoCast.__version__,
                "onnx": onnx.__version__,
                "opset": OPSET,
                "fp16_weights": 1.0,
                "bytes": self.output.stat().st_size,
            },
        )
        self.assertEqual(onnx.load(str(self.output)), after)
        want = {"path": str(self.model), "low_precision_type": "fp16", "keep_io_types": True, "providers": ["cpu"]}
        self.assertEqual(self.autocast.calls, [want])

    def test_facts_are_one_line_of_json(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), self.assertRaises(SystemExit) as end:
            run(lambda: self.cast(linear(half=True)))
        self.assertEqual(end.exception.code, 0)
        self.assertEqual(json.loads(out.getvalue())["fp16_weights"], 1.0)
        self.assertEqual(out.getvalue().count("\n"), 1)

    def test_a_tenth_may_stay_in_fp32(self) -> None:
        left = [
            (TensorProto.FLOAT, WEIGHTS // 10),
            (TensorProto.INT64, 1000),
        ]  # what is no number to compute with does not count
        self.assertEqual(
            self.cast(linear(half=True, more=left))["fp16_weights"], round(WEIGHTS / (WEIGHTS + WEIGHTS // 10), 4)
        )

    def test_too_few_fp16_weights(self) -> None:
        left = [(TensorProto.FLOAT, WEIGHTS // 8)]
        self.refuses(
            Problem,
            r"AutoCast left 11\.1 % of the weights in FP32: .* use --precision fp32",
            linear(half=True, more=left),
        )

    def test_nothing_cast(self) -> None:
        self.refuses(Problem, r"AutoCast left 100\.0 % of the weights in FP32", linear(half=False))

    def test_renamed_input(self) -> None:
        self.refuses(
            RuntimeError,
            "AutoCast made the input .*'input_cast'.* want the same in FP32",
            linear(half=True, name="input_cast"),
        )

    def test_fixed_batch(self) -> None:
        self.refuses(RuntimeError, "AutoCast made the input", linear(half=True, batch=1))

    def test_renamed_batch(self) -> None:
        self.refuses(RuntimeError, "AutoCast made the input", linear(half=True, batch="n"))

    def test_model_that_is_not_valid(self) -> None:
        broken = linear(half=True)
        broken.graph.node[1].input[0] = "nothing"
        self.refuses(onnx.checker.ValidationError, "nothing", broken)

    def test_inputs_in_fp16(self) -> None:
        self.refuses(RuntimeError, "AutoCast made the input", linear(half=True, io_type=TensorProto.FLOAT16))

    def test_model_that_was_fp16(self) -> None:
        onnx.save(linear(half=True, io_type=TensorProto.FLOAT16), str(self.model))
        self.refuses(RuntimeError, "want the same in FP32", linear(half=True, io_type=TensorProto.FLOAT16))

    def test_opset_that_tensorrt_does_not_read(self) -> None:
        self.refuses(RuntimeError, "AutoCast wrote opset 12, want 13 to 22", linear(half=True, opset=12))

    def test_no_onnx(self) -> None:
        self.model.write_bytes(b"\x0a\xff")
        with self.assertRaisesRegex(Problem, r"model\.onnx is no ONNX model, or was cut"):
            self.cast(linear(half=True))

    def test_without_modelopt(self) -> None:
        with self.assertRaisesRegex(
            Problem, r"has no AutoCast .*\(No module named 'modelopt'\); use NVIDIA's PyTorch image"
        ):
            self.main()

    def test_modelopt_without_what_it_needs(self) -> None:
        package = self.folder / "site" / "modelopt" / "onnx"
        package.mkdir(parents=True)
        (package / "autocast.py").write_text("import lief\n", encoding="utf-8")
        with mock.patch.object(sys, "path", [*sys.path, str(self.folder / "site")]):
            self.addCleanup(sys.modules.pop, "modelopt", None)
            self.addCleanup(sys.modules.pop, "modelopt.onnx", None)
            with self.assertRaisesRegex(
                Problem, r"or not what that needs \(No module named 'lief'\); .* --precision fp32"
            ):
                self.main()


if __name__ == "__main__":
    unittest.main()
