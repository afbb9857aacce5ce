"""Decodes pictures with a serialized DALI pipeline, in a process of its own that a picture may bring down.

backend_dali.py starts it with three file descriptors as arguments: a Unix socket of type SEQPACKET, a file in memory
with the encoded pictures of one batch, and another with room for their tensors. Each message is one JSON object. The
first tells what to decode with, and is answered by {} once pictures may come, or by {"error": why not}:

    {"model": path, "max_batch": count, "threads": count, "max_pixels": count, "shape": [3, 224, 224]}

Every other one names pictures of the batch:

    {"pictures": [[place of its first byte, its bytes, number of its tensor, which is FP32 of that shape], ...]}

As many of the first ones as the limits allow are decoded together, at least one. The answer has an entry for each of
these, and the others are to be sent again:

    {"refused": [null or why that picture has no tensor, ...]}

Or it is a text to say of a picture that was alone, where DALI failed on one of them and does not say which; no tensor
is to be read then:

    {"failed": text}

Between messages it ends when the socket's other end is closed, or when half of its memory is used up,
so that what DALI keeps or leaks fails no good picture; and at any time with the thread that started it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nvidia import nvimgcodec
from nvidia.dali import Pipeline

INPUT = "DALI_INPUT_0"

# What this process may use beyond what it has when it is ready. A header of 700 bytes can ask for 4 GiB; 64 million
# pixels of RGB are 192 MB, in what JPEG 2000 decodes to four times that, and 64 small pictures took 0.77 GB with all
# of DALI.
MEMORY = 2 << 30

# The most bytes of encoded pictures that are decoded together: they are here twice, once for DALI.
MAX_ENCODED = 256 << 20

# A message of 256 pictures, or refusals of 200 characters, is 50 KB.
MAX_MESSAGE = 1 << 17

# prctl(2), linux/prctl.h: the signal that this process gets when the thread that started it ends.
PR_SET_PDEATHSIG = 1

# A BMP (Windows GDI) has a file header of 14 bytes, then the information header, which begins with its own size. From
# 40 bytes on that has the bits of a pixel and the compression method; the size of the oldest, 12, has the bits at
# another place.
BMP_CORE = 12
BMP_CORE_BITS = struct.Struct("<14xI6xH")
BMP_BITS_AND_METHOD = struct.Struct("<14xI10xHI")
BMP_MASKS = (3, 6)  # BI_BITFIELDS and BI_ALPHABITFIELDS
BMP_NO_PALETTE_NOR_BYTES = 16


class Failed(Exception):  # noqa: N818 - the word of the message
    """DALI failed a group; the text is what to say of a picture that was alone in it."""


class Refusal(NamedTuple):
    """What takes the place of a picture: why it is not decoded, as the client shall read it."""

    reason: str


class Picture(NamedTuple):
    """An encoded picture, which tensor it gets, and what its header says."""

    encoded: np.ndarray  # bytes
    tensor: int
    codec: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Returns the number of pixels once decoded."""
        return self.width * self.height

    def __str__(self) -> str:
        """Returns what a client recognizes it by."""
        return f"{self.codec} of {self.width}x{self.height}"


class Decoder:
    """A DALI pipeline with the limits that hold for its pictures."""

    def __init__(self, config: dict[str, Any], encoded: int, tensors: int) -> None:
        """Builds the pipeline for pictures of a file, and maps the one for their tensors."""
        self._encoded = encoded
        self._max_batch: int = config["max_batch"]
        self._threads: int = config["threads"]
        self._max_pixels: int = config["max_pixels"]
        self._shape = tuple(config["shape"])
        # By write(2) a tensor took three times as long, which was a tenth of the time of a small picture.
        self._tensors = np.frombuffer(mmap.mmap(tensors, 0), dtype=np.float32).reshape(-1, *self._shape)
        self._serialized = Path(config["model"]).read_bytes()
        self._pipeline = self._build()

    def inspect(self, place: int, size: int, tensor: int) -> Picture | Refusal:
        """Reads the header: most bad input ends here, and costs neither a pipeline nor memory."""
        if size == 0:
            return Refusal("is empty")
        encoded = np.frombuffer(os.pread(self._encoded, size, place), dtype=np.uint8)
        try:
            header = nvimgcodec.CodeStream(encoded)
            picture = Picture(encoded, tensor, header.codec_name, header.width, header.height)
        except RuntimeError:
            return Refusal(f"is in no format that DALI reads, or its header is damaged ({size} bytes)")
        if picture.width < 1 or picture.height < 1:
            return Refusal(f"has a damaged header: it says {picture.width}x{picture.height} pixels")
        if picture.pixels > self._max_pixels:
            return Refusal(f"is too large: {picture.width}x{picture.height}, want at most {self._max_pixels} pixels")
        if picture.codec == "bmp" and has_colour_masks(encoded[: BMP_BITS_AND_METHOD.size].tobytes()):
            return Refusal("is a BMP with colour masks or 16 bits a pixel, whose colours DALI exchanges or darkens")
        return picture

    def group(self, pictures: list[list[int]]) -> list[Picture | Refusal]:
        """Reads the first of the pictures, as many as keep to the limits of memory and of the pipeline."""
        group: list[Picture | Refusal] = []
        pixels = size = 0
        for place, length, tensor in pictures[: self._max_batch]:
            picture = self.inspect(place, length, tensor)
            if isinstance(picture, Picture):
                pixels, size = pixels + picture.pixels, size + length
                if group and (pixels > self._max_pixels or size > MAX_ENCODED):
                    break
            group.append(picture)
        return group

    def decode(self, pictures: list[list[int]]) -> dict[str, Any]:
        """Returns the answer to one message."""
        group = self.group(pictures)
        try:
            self._run([one for one in group if isinstance(one, Picture)])
        except Failed as failed:
            return {"failed": str(failed)}
        return {"refused": [one.reason if isinstance(one, Refusal) else None for one in group]}

    def _run(self, pictures: list[Picture]) -> None:
        """Writes the tensors of pictures.

        Raises:
            Failed: one of the pictures cannot be decoded.
        """
        if not pictures:
            return
        try:
            self._pipeline.feed_input(INPUT, [picture.encoded for picture in pictures])
            (tensors,) = self._pipeline.run()
        except RuntimeError as error:
            self._pipeline = self._build()  # a pipeline that raised answers nothing any more
            if len(pictures) == 1:
                said = " ".join(str(error).split())
                sys.stderr.write(f"DALI on {pictures[0]} ({pictures[0].encoded.size} bytes): {said}\n")
            raise Failed(
                f"cannot be decoded ({pictures[0]}): it is damaged, cut short, or of a kind that DALI does not decode"
            ) from error
        for position, picture in enumerate(pictures):
            tensor = np.asarray(tensors[position])  # a view; as_array copies all of them
            if tensor.shape != self._shape or tensor.dtype != np.float32:
                raise RuntimeError(
                    f"the DALI pipeline makes {tensor.dtype} of {tensor.shape}, want float32 of {self._shape}"
                )
            self._tensors[picture.tensor] = tensor

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


def has_colour_masks(bmp: bytes) -> bool:
    """Reports whether masks divide the pixels of a BMP: OpenCV, which decodes it for DALI, does not heed them."""
    if len(bmp) < BMP_BITS_AND_METHOD.size:
        return False  # it ends in its header, which the decoder says
    size, bits, method = BMP_BITS_AND_METHOD.unpack_from(bmp)
    if size == BMP_CORE:
        _, bits = BMP_CORE_BITS.unpack_from(bmp)
        return bits == BMP_NO_PALETTE_NOR_BYTES
    return bits == BMP_NO_PALETTE_NOR_BYTES or method in BMP_MASKS


def end_with_parent() -> None:
    """Lets the kernel end this process, whatever it is at, when the one that started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Memory:
    """The addresses that this process has. It is asked after each batch, so the file stays open."""

    def __init__(self) -> None:
        """Opens what the kernel says of this process: proc(5), statm."""
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)

    def size(self) -> int:
        """Returns how many bytes of addresses there are now."""
        return int(os.pread(self._statm, 100, 0).split()[0]) * resource.getpagesize()


def set_limits(size: int) -> None:
    """Makes an allocation fail that takes this process beyond a size and MEMORY, and leaves no core of GiB."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def main() -> None:
    """Decodes what comes over the socket, until its other end is closed or half of the memory is used up."""
    end_with_parent()
    connection, encoded, tensors = (int(argument) for argument in sys.argv[1:])
    with socket.socket(fileno=connection) as peer:
        try:
            decoder = Decoder(json.loads(peer.recv(MAX_MESSAGE)), encoded, tensors)
        except (OSError, RuntimeError) as error:
            peer.send(json.dumps({"error": str(error)}).encode())
            return
        memory = Memory()
        ready = memory.size()
        set_limits(ready)
        peer.send(b"{}")
        while memory.size() < ready + MEMORY // 2:
            message = peer.recv(MAX_MESSAGE)
            if not message:
                return
            peer.send(json.dumps(decoder.decode(json.loads(message)["pictures"])).encode())


if __name__ == "__main__":
    main()
