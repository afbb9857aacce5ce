"""Serves an ONNX model on the CPU from Triton's Python backend, where Triton's ONNX Runtime backend is not to be had.

It is copied as model.py beside model.onnx into the model's version folder. The names of its one input and its one
output are the model's own.

Parameters of the model configuration, all optional:
    intra_op_threads: CPU threads of one inference (default: the CPUs that this process may use).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# Read when ONNX Runtime is imported, which otherwise starts to collect and send usage data; disable_telemetry_events
# comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime


class TritonPythonModel:
    """The model as Triton's Python backend drives it: one instance to a process, one execute at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model, so that a file that does not load fails the model's load."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = int(
            parameters.get("intra_op_threads", {}).get("string_value", len(os.sched_getaffinity(0)))
        )
        # Idle threads that spin take the cores from DALI, which runs on the same ones.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(Path(args["model_repository"]) / args["model_version"] / "model.onnx"),
            options,
            providers=["CPUExecutionProvider"],
        )
        (self._input,) = (value.name for value in self._session.get_inputs())
        (self._output,) = (value.name for value in self._session.get_outputs())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests with one inference over their concatenated batches."""
        batches = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        (outputs,) = self._session.run([self._output], {self._input: np.concatenate(batches)})
        ends = np.cumsum([len(batch) for batch in batches])
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self._output, rows)])
            for rows in np.split(outputs, ends[:-1])
        ]
