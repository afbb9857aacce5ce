"""Decodes a picture with Pillow, as PyTorch's users do, to the pixels that DALI decodes: as stored, in 8-bit RGB."""

from __future__ import annotations

import ctypes
import io
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

from program import Problem, one_line, read

if TYPE_CHECKING:
    from pathlib import Path

JPEG_START = b"\xff\xd8"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

DEEP = 16  # the most bits of a whole number that DALI decodes

# TIFF tags.
BITS, ORIENTATION, PALETTE = 258, 274, 320

PALETTE_WHITE = 65535  # TIFF 6.0, section 5

# What undoes the transposition that Pillow gives a TIFF of an orientation as it loads it. The others undo themselves.
UNDONE = {6: 8, 8: 6}
TRANSPOSITIONS = {
    2: Image.FLIP_LEFT_RIGHT,
    3: Image.ROTATE_180,
    4: Image.FLIP_TOP_BOTTOM,
    5: Image.TRANSPOSE,
    6: Image.ROTATE_270,
    7: Image.TRANSVERSE,
    8: Image.ROTATE_90,
}


class Decoded(NamedTuple):
    """A picture's pixels, and who looked for what libjpeg only warns of."""

    pixels: Image.Image
    jpeg_warnings: str


class BadPicture(Problem):
    """The picture is at fault, and nothing else."""

    status = 3


def decode(path: Path) -> Decoded:
    """Returns the picture in RGB. An orientation that its metadata ask for is not applied, as it is not by DALI.

    Raises:
        BadPicture: the file is no picture, is cut short or damaged, or of a kind that Pillow or DALI does not read.
        MemoryError: there is not enough memory for it here.
    """
    content = read(path)
    if content.startswith(PNG_SIGNATURE):
        content = critical_chunks(content)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            # By the bytes: a JPEG with others behind it, as many phones write, is an MPO for Pillow.
            warnings = jpeg_warnings(content) if content.startswith(JPEG_START) else "none: it is no JPEG"
            orientation = picture.tag_v2.get(ORIENTATION, 1) if picture.format == "TIFF" else 1
            picture.load()  # new versions of Pillow forget the orientation here
            return Decoded(as_stored(in_rgb(picture), orientation), warnings)
    except UnidentifiedImageError as error:
        raise BadPicture(f"{path} is no picture, or in no format that Pillow {PIL.__version__} reads") from error
    except MemoryError:
        raise  # which is the machine's fault
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error and more on damaged bytes
        raise BadPicture(f"{path} cannot be decoded as a picture: {one_line(error)}") from error


def critical_chunks(content: bytes) -> bytes:
    """Returns a PNG without what decoders may leave out, and what is behind its end.

    Pillow refuses one of a wrong checksum, DALI leaves it out.
    """
    kept, at = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        if not name[0] & 0x20:
            kept.append(content[at : at + 12 + length])
        if name == b"IEND":
            break
        at += 12 + length
    return b"".join(kept)


def in_rgb(picture: Image.Image) -> Image.Image:
    """Returns the picture in RGB of 8 bits: numbers are scaled as DALI does it, where Pillow would clip them to 255."""
    mode = picture.mode
    if mode == "P" and picture.format == "TIFF":
        # Pillow leaves out the low bits of the reds, then greens, then blues, instead of scaling the numbers.
        colours = np.asarray(picture.tag_v2[PALETTE], dtype=np.float64).reshape(3, -1).T
        picture.putpalette(np.rint(colours * 255 / PALETTE_WHITE).astype(np.uint8).tobytes())
    if mode != "F" and not mode.startswith("I"):
        return picture.convert("RGB")
    numbers = np.asarray(picture).astype(np.float64)
    if mode == "F":
        scaled = np.nan_to_num(numbers, nan=0.0, posinf=1.0, neginf=0.0) * 255  # DALI takes 0 for black and 1 for white
    else:
        bits = picture.tag_v2.get(BITS, (DEEP,))[0] if picture.format == "TIFF" else DEEP
        if bits > DEEP or numbers.min() < 0:
            raise ValueError(f"its samples are signed or of {bits} bits, which DALI does not decode")
        scaled = numbers * 255 / (2**bits - 1)
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8)).convert("RGB")


def as_stored(pixels: Image.Image, orientation: int) -> Image.Image:
    """Returns the pixels without the orientation of a TIFF, which Pillow applies unasked, and to no other format."""
    undone = UNDONE.get(orientation, orientation)
    return pixels.transpose(TRANSPOSITIONS[undone]) if undone in TRANSPOSITIONS else pixels


class TurboJPEG:
    """The decoder that says what Pillow's own, libjpeg, only warns of: scans that lack data or have too much of it.

    It is a part of libjpeg-turbo. Names and numbers are those of its turbojpeg.h, unchanged since version 1.2.
    """

    PIXELS_RGB, PIXELS_CMYK = 0, 11
    COLOURS_CMYK, COLOURS_YCCK = 3, 4
    STOP_ON_WARNING = 8192  # since 2.0; older ones report the warning after they decoded

    def __init__(self) -> None:
        """Loads the library; raises an OSError where there is none."""
        self._library = ctypes.CDLL("libturbojpeg.so.0")
        self._library.tjInitDecompress.restype = ctypes.c_void_p
        self._library.tjGetErrorStr.restype = ctypes.c_char_p

    def complaint(self, content: bytes) -> str | None:
        """Returns what is wrong with a JPEG, None if nothing is.

        Raises:
            LookupError: it cannot tell: its interface has no name for how the colours are sampled.
        """
        library = self._library
        decoder = ctypes.c_void_p(library.tjInitDecompress())
        try:
            width, height, sampling, colours = (ctypes.c_int() for _ in range(4))
            size = ctypes.c_ulong(len(content))
            sides = (ctypes.byref(width), ctypes.byref(height), ctypes.byref(sampling), ctypes.byref(colours))
            if library.tjDecompressHeader3(decoder, content, size, *sides):
                raise LookupError(library.tjGetErrorStr().decode(errors="replace"))
            cmyk = colours.value in (self.COLOURS_CMYK, self.COLOURS_YCCK)
            # All of the data are read for an eighth of each side, too, and the pixels take a 64th of the memory.
            across, down = (width.value + 7) // 8, (height.value + 7) // 8
            pixels = ctypes.create_string_buffer(across * down * (4 if cmyk else 3))
            layout = (across, 0, down, self.PIXELS_CMYK if cmyk else self.PIXELS_RGB, self.STOP_ON_WARNING)
            if library.tjDecompress2(decoder, content, size, pixels, *layout):
                return library.tjGetErrorStr().decode(errors="replace")
            return None
        finally:
            library.tjDestroy(decoder)


def jpeg_warnings(content: bytes) -> str:
    """Returns who saw that libjpeg warns of nothing in a JPEG.

    Raises:
        ValueError: it warns of something.
    """
    try:
        complaint = TurboJPEG().complaint(content)
    except OSError:
        return "not seen: there is no libturbojpeg here"
    except LookupError as error:
        return f"not seen: {one_line(error)}"
    if complaint:
        raise ValueError(complaint)
    return "none: libturbojpeg looked"
