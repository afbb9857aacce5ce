"""Tests picture.py with the real Pillow, on bytes that are made up here."""

from __future__ import annotations

import io
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from PIL import Image

import picture


def encoded(kind: str) -> bytes:
    """Returns a small picture."""
    file = io.BytesIO()
    Image.new("RGB", (5, 3), (200, 30, 60)).save(file, kind)
    return file.getvalue()


class DecodeTest(unittest.TestCase):
    """Tests of decode."""

    def decoded(self, content: bytes) -> picture.Decoded:
        """Returns what is decoded of a file with the content."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(content)
            return picture.decode(path)

    def test_lack_of_memory_is_not_the_pictures_fault(self) -> None:
        with mock.patch.object(Image.Image, "convert", side_effect=MemoryError), self.assertRaises(MemoryError):
            self.decoded(encoded("PNG"))

    def test_damage_is_the_pictures_fault(self) -> None:
        with self.assertRaises(picture.BadPicture):
            self.decoded(encoded("PNG")[:-30])

    def test_what_is_behind_the_end_of_a_png_is_left_out(self) -> None:
        content = encoded("PNG")
        chunk = struct.pack(">I4s", 1 << 20, b"IDAT")  # as another file's, and cut
        self.assertEqual(picture.critical_chunks(content + chunk * 3), picture.critical_chunks(content))
        self.assertEqual(self.decoded(content + chunk).pixels.getpixel((0, 0)), (200, 30, 60))

    def test_a_palette_of_tiff_is_scaled(self) -> None:
        # Encoders that shift colours of 8 bits to the left write 0xff00, which is not white.
        file = io.BytesIO()
        palettes = Image.new("P", (5, 3), 1)
        palettes.putpalette([0, 0, 0, 255, 128, 7])
        palettes.save(file, "TIFF")
        self.assertEqual(self.decoded(file.getvalue()).pixels.getpixel((0, 0)), (254, 128, 7))

    def test_libjpegs_warnings_are_looked_for_in_a_jpeg_of_several_pictures(self) -> None:
        file = io.BytesIO()
        pictures = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
        pictures[0].save(file, "MPO", save_all=True, append_images=pictures[1:])
        with Image.open(file) as opened:
            self.assertEqual(opened.format, "MPO")
        self.assertEqual(self.decoded(file.getvalue()).jpeg_warnings, "none: libturbojpeg looked")


if __name__ == "__main__":
    unittest.main()
