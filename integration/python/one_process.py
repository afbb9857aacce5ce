"""Classifies one picture again and again in one process: what a server of the CPU lane does, without the server.

Usage: one_process.py MODELS PICTURE SECONDS BATCH...

MODELS is a model repository with local images. DALI and ONNX Runtime work in turn, each with a thread for each CPU.
Each size of a batch has its SECONDS, and a line of JSON on stdout: {"batch", "pictures_per_second", "cpu_seconds" of a
picture, "class"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

# As in backend_onnx.py.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from nvidia.dali import Pipeline

# A batch to warm up with, and one more, after which ONNX Runtime has all of its memory.
WARMUPS = 2


class Classifier:
    """Both models, for batches of one size."""

    def __init__(self, models: Path, batch: int) -> None:
        """Loads the models."""
        cpus = len(os.sched_getaffinity(0))
        self._pipeline = Pipeline.deserialize(
            (models / "dali/1/model.dali").read_bytes(),
            batch_size=batch,
            num_threads=cpus,
            prefetch_queue_depth=1,
            exec_async=False,
            exec_pipelined=False,
        )
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = cpus
        model = models / "resnet50_onnx/1/model.onnx"
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        (self._input,) = (value.name for value in self._session.get_inputs())

    def classify(self, pictures: list[np.ndarray]) -> int:
        """Returns the class of the first of a batch of encoded pictures."""
        self._pipeline.feed_input("DALI_INPUT_0", pictures)
        (tensors,) = self._pipeline.run()
        (logits,) = self._session.run(None, {self._input: tensors.as_array()})
        return int(logits[0].argmax())


def main(models: str, picture: str, seconds: str, *batches: str) -> None:
    """Measures and prints."""
    encoded = np.fromfile(picture, dtype=np.uint8)
    for batch in map(int, batches):
        classifier = Classifier(Path(models), batch)
        pictures = [encoded] * batch
        for _ in range(WARMUPS):
            found = classifier.classify(pictures)
        done, began, used = 0, time.monotonic(), time.process_time()
        while (took := time.monotonic() - began) < float(seconds):
            classifier.classify(pictures)
            done += batch
        figures = {
            "batch": batch,
            "pictures_per_second": done / took,
            "cpu_seconds": (time.process_time() - used) / done,
            "class": found,
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
