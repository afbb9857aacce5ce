"""Serves a serialized DALI pipeline from Triton's Python backend, where Triton's own DALI backend is not to be had.

It is copied as model.py beside model.dali and decoder.py into the model's version folder. Each row of DALI_INPUT_0 is
one encoded picture, zeros behind its end are ignored; each row of DALI_OUTPUT_0 is its tensor.

What a picture says about itself is believed by libraries in C++, and some pictures bring their process down, hang it,
or make it ask for all memory. So decoder.py, which parses and decodes, is another process: one that ends takes
nothing along but a second or two, and the picture that did it is found and gets an error; its neighbours get their
tensors.

Parameters of the model configuration, all optional:
    num_threads: CPU threads of the pipeline (default: the CPUs that this process may use).
    max_pixels: the largest picture that is decoded, and the most pixels that are held decoded at a time, at 3 bytes
        each (default: 64000000).
"""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Optional, Tuple

import numpy as np
import triton_python_backend_utils as pb_utils

INPUT = "DALI_INPUT_0"
OUTPUT = "DALI_OUTPUT_0"

# More than a camera's 61-megapixel picture. A JPEG of 30000x30000 pixels is a few MB, decodes for 13 s and takes
# 2.7 GB. Clients know the same figure: internal/picture/picture.go.
MAX_PIXELS = 64_000_000

# The interpreter of the image. sys.executable is not set in Triton's stub, and multiprocessing does not start there.
PYTHON = "/usr/bin/python3"

# How long a decoder may take to import DALI and build its pipeline; it takes half a second.
START_WITHIN = 60.0  # seconds

# How long a decoder may be silent: for one picture, or for a group of them with at most max_pixels, which takes 2 s.
ANSWER_WITHIN = 20.0  # seconds

# How long a decoder that closed its connection may take to end by itself, which says how it ended.
END_WITHIN = 2.0  # seconds

# A picture that ends each decoder at once must not keep the machine busy with starting them.
START_EVERY = 1.0  # seconds

# How long a batch is tried in vain. One bad picture of 256 costs ten tries, and one that hangs costs two of 20 s; a
# batch full of them must not hold up others for so long that the server is taken for dead (internal/cli/health.go:
# after 90 s).
BATCH_WITHIN = 50.0  # seconds

# What is said of a picture that was not reached in that time. Nobody knows whether it is good.
NOT_TRIED = "was not decoded in time: too many pictures of its batch ended or hung what decodes them; send it again"

# How often a decoder is started that ends before it is ready.
STARTS = 3

# Each thread that allocates may get an arena of 64 MiB of addresses, which count against the decoder's memory limit
# although nothing is in them; a host of 64 cores would have used it up before the first picture.
ARENAS = "8"

# As in decoder.py.
MAX_MESSAGE = 1 << 17

Picture = Tuple[int, int, int]  # place of its first byte among the encoded ones, its bytes, number of its tensor
Reason = Optional[str]  # why a picture has no tensor; None where it has one


class Failure(Exception):  # noqa: N818 - of one try, not of this program
    """Pictures were tried together and none was decoded; the text is what to say of one that was alone."""

    def __init__(self, text: str, *, proven: bool = True, slow: bool = False) -> None:
        """Takes the text and what kind of failure it is.

        Args:
            text: what to say of a picture that was alone.
            proven: it lies at these pictures. A process that ends may have been damaged by one that came before.
            slow: each further try that fails takes as long.
        """
        super().__init__(text)
        self.proven = proven
        self.slow = slow


class Decoder:
    """The process that parses and decodes. It is started anew when it is needed and not there."""

    def __init__(self, program: Path, config: dict[str, Any]) -> None:
        """Takes decoder.py and its first message."""
        self._program = program
        self._config = json.dumps(config).encode()
        self._encoded = os.memfd_create("encoded")
        self._tensors = os.memfd_create("tensors")
        shape = (config["max_batch"], *config["shape"])
        os.ftruncate(self._tensors, math.prod(shape) * np.dtype(np.float32).itemsize)
        # One for each picture of the batch that was put last.
        self.tensors = np.frombuffer(mmap.mmap(self._tensors, 0), dtype=np.float32).reshape(shape)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -math.inf
        self._fresh = True  # no picture was given to it yet

    def start(self) -> None:
        """Starts the process unless it runs.

        Raises:
            RuntimeError: it does not start; the text says why.
        """
        for attempt in range(1, STARTS + 1):
            if self._process is not None and self._process.poll() is None:
                return
            self.stop()
            try:
                self._start()
            except OSError as error:
                how = str(error) if self._process is None else told(self._end())
                if attempt == STARTS:
                    raise RuntimeError(f"the decoder ended while it started ({how})") from error

    def _start(self) -> None:
        time.sleep(max(0.0, self._started + START_EVERY - time.monotonic()))
        self._started = time.monotonic()
        self._peer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            files = [theirs.fileno(), self._encoded, self._tensors]
            self._process = subprocess.Popen(  # noqa: S603 - both are ours
                [PYTHON, "-I", str(self._program), *map(str, files)],
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                env={**os.environ, "MALLOC_ARENA_MAX": ARENAS},
            )
        self._fresh = True
        try:
            self._peer.send(self._config)
            answer = self._receive(START_WITHIN)
        except socket.timeout as error:
            self.stop()
            raise RuntimeError(f"the decoder was not ready after {START_WITHIN:.0f} s") from error
        if "error" in answer:
            self.stop()
            raise RuntimeError(answer["error"])

    def put(self, pictures: list[np.ndarray]) -> list[Picture]:
        """Makes pictures the batch that is decoded next."""
        placed: list[Picture] = []
        end = 0
        for tensor, picture in enumerate(pictures):
            content = memoryview(np.ascontiguousarray(picture))
            if os.pwrite(self._encoded, content, end) != len(content):
                raise OSError(f"a picture of {len(content)} bytes was not written whole")
            placed.append((end, len(content), tensor))
            end += len(content)
        return placed

    def forget(self) -> None:
        """Frees the memory of the batch's encoded pictures."""
        os.ftruncate(self._encoded, 0)

    def decode(self, pictures: list[Picture]) -> list[Reason]:
        """Decodes the first of some pictures, at least one, and returns for each why it has no tensor, or None.

        Raises:
            Failure: at least one of them cannot be decoded.
            RuntimeError: the process does not start.
        """
        self.start()
        message = json.dumps({"pictures": pictures})
        fresh, self._fresh = self._fresh, False
        try:
            self._peer.send(message.encode())
            answer = self._receive(ANSWER_WITHIN)
            if "failed" in answer:
                raise Failure(str(answer["failed"]))
            return checked(answer, len(pictures))
        except socket.timeout:
            self.stop()
            text = f"cannot be decoded: that was not done after {ANSWER_WITHIN:.0f} s"
            failure = Failure(text, proven=fresh, slow=True)
        except OSError:
            code = self._end()
            if code == 0 and not fresh:  # it had ended in good order, for its memory
                return self.decode(pictures)
            failure = Failure(f"cannot be decoded: the process that tried ended ({told(code)})", proven=fresh)
        pb_utils.Logger.log_warn(f"{len(pictures)} picture(s) tried together: at least one {failure}")
        raise failure

    def stop(self) -> None:
        """Ends the process."""
        if self._process is None:
            return
        self._peer.close()
        self._process.kill()
        self._process.wait()
        self._process = None

    def _receive(self, within: float) -> dict[str, Any]:
        self._peer.settimeout(within)
        try:
            answer = json.loads(self._peer.recv(MAX_MESSAGE))
        except (ValueError, RecursionError) as error:  # nothing more comes, or what comes is of a damaged process
            raise ConnectionResetError from error
        if not isinstance(answer, dict):
            raise ConnectionResetError
        return answer

    def _end(self) -> int:
        """Returns the exit status of the process, or a negative signal; nothing more can be had of it."""
        try:
            code = self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL  # by stop
        self.stop()
        return code


class Batch:
    """The pictures of all requests of one execute: they are tried together, and where that fails ever fewer of them."""

    def __init__(self, decoder: Decoder, requests: list[np.ndarray]) -> None:
        """Gives the decoder the pictures of requests, each of which has at least one."""
        self._decoder = decoder
        self._owners = [number for number, batch in enumerate(requests) for _ in batch]  # a tensor's request
        self._reasons: list[Reason] = [NOT_TRIED] * len(self._owners)  # a tensor's
        self._refused: set[int] = set()  # requests: their other pictures need no tensor
        self._failed: set[int] = set()  # tensors that were wanted in vain
        self._done: dict[int, np.ndarray] = {}  # tensors, where later pictures cannot overwrite them
        self._parts = [decoder.put([picture for batch in requests for picture in batch])]  # to be tried, the last first

    def decode(self) -> list[Reason]:
        """Returns for each picture why it has no tensor, or None.

        Raises:
            RuntimeError: no decoder starts.
        """
        left = BATCH_WITHIN
        while self._parts and left > 0:
            part = [picture for picture in self._parts.pop() if self._owners[picture[2]] not in self._refused]
            if not part:
                continue
            began = time.monotonic()
            try:
                self._settle(part, self._decoder.decode(part))
            except Failure as failure:
                left -= time.monotonic() - began
                self._retry(part, failure)
        for tensor, content in self._done.items():
            self._decoder.tensors[tensor] = content
        return self._reasons

    def _settle(self, part: list[Picture], reasons: list[Reason]) -> None:
        """Keeps what came of the first pictures of a part; the others are tried next."""
        if len(reasons) < len(part):
            self._parts.append(part[len(reasons) :])
        for (_, _, tensor), reason in zip(part, reasons):
            self._reasons[tensor] = reason
            if reason is not None:
                self._refused.add(self._owners[tensor])
            elif self._parts:
                self._done[tensor] = self._decoder.tensors[tensor].copy()

    def _retry(self, part: list[Picture], failure: Failure) -> None:
        """Divides a part that failed; the failure of a single picture that did it is kept."""
        tensors = {tensor for _, _, tensor in part}
        again = self._failed >= tensors
        self._failed |= tensors
        if len(part) > 1:
            self._parts.extend(reversed(singles(part) if failure.slow else halves(part)))
        elif failure.proven or (failure.slow and again):
            self._settle(part, [str(failure)])
        else:
            # The process may have been damaged before: one that has done nothing else will tell, or a second hang.
            self._parts.append(part)


class TritonPythonModel:
    """The model as Triton's Python backend drives it: one instance to a process, one execute at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Starts the decoder, so that a DALI pipeline that does not load fails the model's load."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._decoder = Decoder(
            folder / "decoder.py",
            {
                "model": str(folder / "model.dali"),
                "max_batch": config["max_batch_size"],
                "threads": int(parameters.get("num_threads", len(os.sched_getaffinity(0)))),
                "max_pixels": int(parameters.get("max_pixels", MAX_PIXELS)),
                "shape": pb_utils.get_output_config_by_name(config, OUTPUT)["dims"],
            },
        )
        self._decoder.start()

    def finalize(self) -> None:
        """Ends the decoder."""
        self._decoder.stop()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request with its tensors, or with what is wrong with its first bad picture."""
        rows = [pb_utils.get_input_tensor_by_name(request, INPUT).as_numpy() for request in requests]
        try:
            reasons = Batch(self._decoder, rows).decode()
        except (OSError, RuntimeError) as error:
            text = f"no picture can be decoded now: {error}"
            return [self._failed(text) for _ in requests]
        finally:
            self._decoder.forget()
        responses, end = [], 0
        for batch in rows:
            start, end = end, end + len(batch)
            responses.append(self._response(self._decoder.tensors[start:end], reasons[start:end]))
        return responses

    @staticmethod
    def _failed(text: str) -> Any:  # noqa: ANN401 - as below
        # An error for each response: tritonserver 2.51 ends with SIGSEGV if two of a batch share one.
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INTERNAL))

    @staticmethod
    def _response(tensors: np.ndarray, reasons: list[Reason]) -> Any:  # noqa: ANN401 - Triton's type is known in the server alone
        for position, reason in enumerate(reasons, start=1):
            if reason is not None:
                which = f"picture {position} of {len(reasons)}" if len(reasons) > 1 else "the picture"
                kind = pb_utils.TritonError.UNAVAILABLE if reason is NOT_TRIED else pb_utils.TritonError.INVALID_ARG
                error = pb_utils.TritonError(f"{which} {reason}", kind)
                return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(OUTPUT, tensors)])


def told(code: int) -> str:
    """Returns how a process ended, by its status as subprocess has it."""
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def checked(answer: dict[str, Any], count: int) -> list[Reason]:
    """Returns the decoder's answer, if it is one for at least one picture and at most so many.

    Raises:
        ConnectionResetError: it is none, so its process is damaged.
    """
    refused = answer.get("refused")
    if not isinstance(refused, list) or not 1 <= len(refused) <= count:
        raise ConnectionResetError
    if not all(reason is None or isinstance(reason, str) for reason in refused):
        raise ConnectionResetError
    return refused


def halves(part: list[Picture]) -> list[list[Picture]]:
    """Returns the pictures in two parts."""
    middle = len(part) // 2
    return [part[:middle], part[middle:]]


def singles(part: list[Picture]) -> list[list[Picture]]:
    """Returns the pictures in a part for each of them."""
    return [[picture] for picture in part]
