"""Serves a serialized DALI pipeline from Triton's Python backend, where Triton's own DALI backend is not to be had.

It is copied as model.py beside model.dali into the model's version folder. Each row of DALI_INPUT_0 is one encoded
picture, zeros behind its end are ignored; each row of DALI_OUTPUT_0 is its tensor.

Parameters of the model configuration, all optional:
    num_threads: CPU threads of the pipeline (default: the CPUs that this process may use).
    max_pixels: the largest picture that is decoded, and the most pixels that are held decoded at a time, at 3 bytes
        each (default: 64000000).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Union

import numpy as np
import triton_python_backend_utils as pb_utils
from nvidia import nvimgcodec
from nvidia.dali import Pipeline

INPUT = "DALI_INPUT_0"
OUTPUT = "DALI_OUTPUT_0"

# More than a camera's 61-megapixel picture. A JPEG of 30000x30000 pixels is a few MB, decodes for 13 s and takes
# 2.7 GB: the process would be killed for it, which Triton does not notice. Clients know the same figure:
# internal/picture/picture.go.
MAX_PIXELS = 64_000_000


class BadPicture(NamedTuple):
    """What takes the place of a picture, or of its tensor: why there is none, as the client shall read it."""

    reason: str


class Picture(NamedTuple):
    """An encoded picture and what its header says."""

    encoded: np.ndarray
    codec: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Returns the number of pixels once decoded."""
        return self.width * self.height


Result = Union[np.ndarray, BadPicture]


class TritonPythonModel:
    """The model as Triton's Python backend drives it: one instance to a process, one execute at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the pipeline and builds it, so that a file that does not load fails the model's load."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._max_batch = config["max_batch_size"]
        self._threads = int(parameters.get("num_threads", len(os.sched_getaffinity(0))))
        self._max_pixels = int(parameters.get("max_pixels", MAX_PIXELS))
        self._serialized = (Path(args["model_repository"]) / args["model_version"] / "model.dali").read_bytes()
        self._pipeline = self._build()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request with its tensors, or with what is wrong with its first bad picture."""
        rows = [pb_utils.get_input_tensor_by_name(request, INPUT).as_numpy() for request in requests]
        results = iter(self._decode_all([encoded for batch in rows for encoded in batch]))
        return [self._response([next(results) for _ in batch]) for batch in rows]

    @staticmethod
    def _response(results: list[Result]) -> Any:  # noqa: ANN401 - Triton's type is known inside the server alone
        for position, result in enumerate(results, start=1):
            if isinstance(result, BadPicture):
                which = f"picture {position} of {len(results)}" if len(results) > 1 else "the picture"
                error = pb_utils.TritonError(f"{which} {result.reason}", pb_utils.TritonError.INVALID_ARG)
                return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(OUTPUT, np.stack(results))])

    def _decode_all(self, rows: list[np.ndarray]) -> list[Result]:
        inspected = [self._inspect(encoded) for encoded in rows]
        results: list[Any] = list(inspected)
        for positions in self._groups(inspected):
            tensors = self._decode([inspected[position] for position in positions])
            for position, tensor in zip(positions, tensors):
                results[position] = tensor
        return results

    def _inspect(self, encoded: np.ndarray) -> Picture | BadPicture:
        """Reads the header: most bad input ends here, and costs neither a pipeline nor memory."""
        try:
            header = nvimgcodec.CodeStream(encoded)
            picture = Picture(encoded, header.codec_name, header.width, header.height)
        except RuntimeError:
            return BadPicture(f"is in no format that DALI reads ({encoded.size} bytes)")
        if picture.pixels > self._max_pixels:
            return BadPicture(f"is too large: {picture.width}x{picture.height}, want at most {self._max_pixels} pixels")
        return picture

    def _groups(self, pictures: list[Picture | BadPicture]) -> Iterator[list[int]]:
        """Yields the positions of the good pictures in groups that keep to the limits of memory and of the pipeline."""
        group: list[int] = []
        pixels = 0
        for position, picture in enumerate(pictures):
            if isinstance(picture, BadPicture):
                continue
            if group and (pixels + picture.pixels > self._max_pixels or len(group) == self._max_batch):
                yield group
                group, pixels = [], 0
            group.append(position)
            pixels += picture.pixels
        if group:
            yield group

    def _decode(self, pictures: list[Picture]) -> list[Result]:
        """Runs the pipeline. DALI fails a whole batch, so a failed one is halved until the bad picture is alone."""
        try:
            self._pipeline.feed_input(INPUT, [picture.encoded for picture in pictures])
            (tensors,) = self._pipeline.run()
            return list(np.array(tensors.as_array()))  # a copy: the next run reuses the memory
        except RuntimeError as error:
            self._pipeline = self._build()  # a pipeline that raised answers nothing any more
            if len(pictures) > 1:
                middle = len(pictures) // 2
                return self._decode(pictures[:middle]) + self._decode(pictures[middle:])
            picture = pictures[0]
            pb_utils.Logger.log_warn(f"DALI on one picture of {picture.encoded.size} bytes: {error}")
            text = (
                f"cannot be decoded ({picture.codec} of {picture.width}x{picture.height}): it is damaged or cut short"
            )
            return [BadPicture(text)]

    def _build(self) -> Pipeline:
        # No prefetch and no second thread: a batch comes when a client sends it, not before.
        return Pipeline.deserialize(
            self._serialized,
            batch_size=self._max_batch,
            num_threads=self._threads,
            prefetch_queue_depth=1,
            exec_async=False,
            exec_pipelined=False,
        )
