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
import re
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

# The most bytes of one encoded picture, with the zeros that pad it: a row of 300 MB would keep others waiting for 20 s.
# Clients know the same figure: internal/picture/picture.go.
MAX_PICTURE = 64 << 20

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

# The extended header of a WebP (RFC 9649, section 2.7) is its first chunk; flags are its first byte.
WEBP_EXTENDED = re.compile(rb"RIFF.{4}WEBPVP8X.{4}(.)", re.DOTALL)
WEBP_EXIF = 8

# Width, height and the highest sample of a PGM or PPM, with white space and comments between them (netpbm's pgm(5)). A
# comment that touches a number, or that a carriage return ends, ends elsewhere for OpenCV, which decodes them for DALI.
PNM_SAMPLES = re.compile(rb"P[2356]")
PNM_HEADER = re.compile(rb"P(.)" + rb"\s(?:\s|#[^\r\n]*\r?\n)*(\d{1,10})" * 3 + rb"\s")
PNM_HEADER_BYTES = 4096  # a decoder would go on for as long as comments do
PNM_TEXT = (b"2", b"3")
PNM_HIGHEST = (255, 65535)

# Markers of a JPEG (ITU-T T.81, table B.1), and the bytes of Adobe's segment from which on libjpeg knows it.
JPEG_MARKER = re.compile(rb"\xff+([^\0\xff])", re.DOTALL)
JPEG_ALONE = (0x01, *range(0xD0, 0xD9))  # without a segment: TEM, RSTn, SOI
JPEG_END, JPEG_SCAN, JPEG_APP14 = 0xD9, 0xDA, 0xEE
JPEG_ADOBE = 12
JPEG_SEGMENTS = 4096  # a profile and EXIF data need 300 at most

# TIFF tags and values (TIFF 6.0). The methods are none, CCITT (three), LZW, JPEG, Deflate (two), PackBits, Zstandard.
TIFF_COMPRESSION, TIFF_PHOTOMETRIC, TIFF_FILL_ORDER, TIFF_ORIENTATION = 259, 262, 266, 274
TIFF_SAMPLES, TIFF_PLANAR, TIFF_TILE_WIDTH, TIFF_TILE_LENGTH = 277, 284, 322, 323
TIFF_READ = frozenset((TIFF_COMPRESSION, TIFF_PHOTOMETRIC, TIFF_FILL_ORDER, TIFF_ORIENTATION))
TIFF_READ |= {TIFF_SAMPLES, TIFF_PLANAR, TIFF_TILE_WIDTH, TIFF_TILE_LENGTH}
TIFF_BITS, TIFF_FORMAT = 258, 339  # a value for each sample
TIFF_SHORT = 3
TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50000)
TIFF_APART = 2
TIFF_NOT_ITS_OWN = (0, 5)  # white is zero; CMYK
TIFF_TILE_SIDE = 16  # a side of a tile is a multiple of it
TIFF_STRIP_BITS, TIFF_TILE_BITS = (1, 8, 16, 32), (8, 16, 32)
TIFF_WHOLE = {3: 2, 4: 4, 16: 8}  # types of whole numbers, and their bytes

JPEG2000_BITS = (8, 16)
FOUR_INKS = 4
GREY_AND_ALPHA = 2


class Failed(Exception):  # noqa: N818 - the word of the message
    """DALI failed a group; the text is what to say of a picture that was alone in it."""


class Refusal(NamedTuple):
    """What takes the place of a picture: why it is not decoded, as the client shall read it."""

    reason: str


class Misread(Exception):  # noqa: N818 - not of this program
    """A header cannot be told from one that a decoder takes for another; the text is why the picture is refused."""


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
        if size > MAX_PICTURE:
            return Refusal(f"is too large: {size} bytes, want at most {MAX_PICTURE}")
        content = without_exif(os.pread(self._encoded, size, place))
        encoded = np.frombuffer(content, dtype=np.uint8)
        try:
            header = nvimgcodec.CodeStream(encoded)
            picture = Picture(encoded, tensor, header.codec_name, header.width, header.height)
        except RuntimeError:
            return Refusal(f"is in no format that DALI reads, or its header is damaged ({size} bytes)")
        if picture.width < 1 or picture.height < 1:
            return Refusal(f"has a damaged header: it says {picture.width}x{picture.height} pixels")
        if picture.pixels > self._max_pixels:
            return Refusal(f"is too large: {picture.width}x{picture.height}, want at most {self._max_pixels} pixels")
        try:
            wrong = misread(header, content)
        except Misread as error:
            wrong = str(error)
        return Refusal(wrong) if wrong else picture

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


def without_exif(content: bytes) -> bytes:
    """Returns a picture; a WebP without the flag that it has EXIF data, of which nothing is applied.

    nvImageCodec would look for them without regard to the padding of chunks of odd length, and fail behind one.
    """
    extended = WEBP_EXTENDED.match(content)
    if extended is None:
        return content
    return content[: extended.start(1)] + bytes([extended[1][0] & ~WEBP_EXIF]) + content[extended.end(1) :]


def misread(header: nvimgcodec.CodeStream, content: bytes) -> str | None:
    """Returns why DALI would answer a picture with wrong pixels, or with memory that it did not write; None if not.

    It is what a header tells easily. docs/pictures.md has more of such kinds, which clients are to check for.

    Raises:
        Misread: as if it were returned.
    """
    codec = header.codec_name
    if codec == "bmp" and has_colour_masks(content[: BMP_BITS_AND_METHOD.size]):
        return "is a BMP with colour masks or 16 bits a pixel, whose colours DALI exchanges or darkens"
    if codec == "jpeg" and header.num_channels == FOUR_INKS and not has_adobe_segment(content):
        return "is a JPEG of four components and no segment of Adobe's, by which DALI takes black for white"
    if codec == "jpeg2k" and (header.precision not in JPEG2000_BITS or header.color_spec == nvimgcodec.ColorSpec.SYCC):
        return "is a JPEG 2000 in YCbCr or of other than 8 or 16 bits, which DALI does not decode right"
    if codec == "pnm" and (highest := highest_sample(content)):
        return f"is a PNM with samples up to {highest}, which DALI decodes right for 255 and 65535 alone"
    return misread_tiff(header, content) if codec == "tiff" else None


def misread_tiff(header: nvimgcodec.CodeStream, content: bytes) -> str | None:
    """Returns for a TIFF what misread returns."""
    if header.num_channels == GREY_AND_ALPHA or header.color_spec == nvimgcodec.ColorSpec.UNSUPPORTED:
        return "is a TIFF in a colour space, or with an alpha channel, that DALI does not decode right"
    tags = tiff_tags(content)
    if tags.get(TIFF_COMPRESSION, 1) not in TIFF_COMPRESSIONS:
        return f"is a TIFF of compression method {tags[TIFF_COMPRESSION]}, which DALI does not decode right"
    apart = tags.get(TIFF_PLANAR) == TIFF_APART and header.num_channels > 1
    if apart and (header.num_channels, header.precision) != (3, 8):
        return "is a TIFF with its channels apart, of which DALI decodes those in RGB of 8 bits alone right"
    if tags.get(TIFF_ORIENTATION, 1) != 1 and (apart or left_to_opencv(tags, header.precision)):
        return "is a TIFF with an orientation, which DALI applies in part to this kind of it"
    return None


def left_to_opencv(tags: dict[int, int], bits: int) -> bool:
    """Reports whether nvImageCodec's own decoder refuses a TIFF by its samples, the order of its bits, or its tiles."""
    sides = tags.get(TIFF_TILE_WIDTH, 0), tags.get(TIFF_TILE_LENGTH, 0)
    whole = all(side % TIFF_TILE_SIDE == 0 for side in sides)
    odd = bits not in (TIFF_STRIP_BITS if sides == (0, 0) else TIFF_TILE_BITS)
    return tags.get(TIFF_PHOTOMETRIC) in TIFF_NOT_ITS_OWN or tags.get(TIFF_FILL_ORDER, 1) != 1 or not whole or odd


def tiff_tags(tiff: bytes) -> dict[int, int]:
    """Returns the values of those tags of the first directory, which is the one that is decoded, that matter here.

    Raises:
        Misread: one of them is not what every reader takes it for. libtiff takes the first of a tag that is there twice
            and many types for numbers, and nvImageCodec does not.
    """
    order, endian = (">", "big") if tiff.startswith(b"M") else ("<", "little")
    big = tiff[2:4] in (b"+\0", b"\0+")
    start, count, entry = ("8xQ", "Q", "HHQ8s") if big else ("4xI", "H", "HHI4s")
    try:
        (place,) = struct.unpack_from(order + start, tiff)
        (entries,) = struct.unpack_from(order + count, tiff, place)
    except (OverflowError, struct.error) as error:
        raise Misread("is a TIFF without a directory") from error
    first = place + struct.calcsize(order + count)
    last = first + entries * struct.calcsize(order + entry)
    if last > len(tiff):
        raise Misread(f"is a TIFF that ends in a directory of {entries} entries")
    seen: set[int] = set()
    found: dict[int, int] = {}
    for tag, form, values, value in struct.iter_unpack(order + entry, memoryview(tiff)[first:last]):
        if tag in seen:  # so there are at most as many as numbers for tags, whatever the directory says
            raise Misread(f"is a TIFF that has tag {tag} twice")
        seen.add(tag)
        if tag in TIFF_READ:
            size = TIFF_WHOLE.get(form, len(value) + 1)  # of eight bytes, one is elsewhere but in a BigTIFF
            if size > len(value) or values != 1:
                raise Misread(
                    f"is a TIFF with {values} values of type {form} in its tag {tag}, which DALI does not read"
                )
            found[tag] = int.from_bytes(value[:size], endian)
        elif tag in (TIFF_BITS, TIFF_FORMAT) and form != TIFF_SHORT:
            raise Misread(f"is a TIFF with values of type {form} in its tag {tag}, which DALI does not read")
    return found


def has_adobe_segment(jpeg: bytes) -> bool:
    """Reports whether a JPEG has a segment of Adobe's before its first scan, where libjpeg looks for it."""
    place = 0
    for _ in range(JPEG_SEGMENTS):
        marker = JPEG_MARKER.match(jpeg, place)
        if marker is None or marker[1][0] in (JPEG_END, JPEG_SCAN):
            return False
        place = marker.end()
        if marker[1][0] in JPEG_ALONE:
            continue
        size = int.from_bytes(jpeg[place : place + 2], "big")  # its own two bytes among them
        if marker[1][0] == JPEG_APP14 and size >= 2 + JPEG_ADOBE and jpeg.startswith(b"Adobe", place + 2):
            return True
        if size < 2:  # noqa: PLR2004 - see above
            return False
        place += size
    return False


def highest_sample(pnm: bytes) -> int | None:
    """Returns how far the samples of a PNM go, None where OpenCV, which decodes it for DALI, scales them right.

    Raises:
        Misread: nobody can tell, or OpenCV takes another number for it.
    """
    if PNM_SAMPLES.match(pnm) is None:
        return None  # a bitmap
    numbers = PNM_HEADER.match(pnm[:PNM_HEADER_BYTES])
    if numbers is None:
        raise Misread(f"is a PNM with another header than one of three numbers in its first {PNM_HEADER_BYTES} bytes")
    highest = int(numbers[4])
    right = highest in PNM_HIGHEST or (highest < PNM_HIGHEST[0] and numbers[1] in PNM_TEXT)
    return None if right else highest


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
