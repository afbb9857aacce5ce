"""Tests backend_dali.py on a decoder that is made up here, and decoder.py with the real DALI of the server image."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

SHAPE = [2, 2]


def made_up_triton() -> types.ModuleType:
    """Returns what backend_dali.py uses of the module that exists in Triton's stub alone."""
    triton = types.ModuleType("triton_python_backend_utils")
    triton.TritonError = mock.Mock(
        side_effect=lambda text, code: (code, text),
        INVALID_ARG="invalid",
        INTERNAL="internal",
        UNAVAILABLE="unavailable",
    )
    triton.Tensor = lambda _, array: array.copy()
    triton.InferenceResponse = lambda output_tensors=None, error=None: error or output_tensors[0]
    triton.Logger = mock.Mock()
    triton.get_input_tensor_by_name = lambda request, _: request
    triton.get_output_config_by_name = lambda config, _: config["output"]
    return triton


sys.modules["triton_python_backend_utils"] = made_up_triton()
import backend_dali  # noqa: E402 - it imports what was made up
import decoder  # noqa: E402

# What a decoder that is damaged may say.
NONSENSE = {
    "nonsense": b"nonsense",
    "number": b"5",
    "nothing": b"{}",
    "few": b'{"refused": []}',
    "many": json.dumps({"refused": [None] * 17}).encode(),
    "kinds": b'{"refused": [5]}',
    "deep": b"[" * 100_000,
}

# A decoder for which a picture is a word that says what it does. After "poison" the next one ends it, after "drowse" it
# hangs, and "spill" writes over the tensors of all others.
MADE_UP_DECODER = (
    f"NONSENSE = {NONSENSE!r}"
    """
import json, os, signal, socket, struct, sys, time
connection, encoded, tensors = (int(argument) for argument in sys.argv[1:])
peer = socket.socket(fileno=connection)
config = json.loads(peer.recv(1 << 17))
if config["model"].endswith("broken/1/model.dali"):
    peer.send(b'{"error": "the pipeline does not load"}')
    sys.exit(0)
if config["model"].endswith("dies/1/model.dali"):
    sys.exit(3)
peer.send(b"{}")
poisoned = ""
while True:
    message = peer.recv(1 << 17)
    if not message:
        sys.exit(0)
    pictures = json.loads(message)["pictures"]
    words = [os.pread(encoded, size, place).rstrip(b"\\0").decode() for place, size, _ in pictures]
    if poisoned == "poison" or "die" in words:
        os.kill(os.getpid(), signal.SIGSEGV)
    if poisoned == "drowse" or "hang" in words:
        time.sleep(600)
    if "exit" in words:
        sys.exit(7)
    for word, answer in NONSENSE.items():
        if word in words:
            peer.send(answer)
            time.sleep(600)
    if "fail" in words:
        peer.send(b'{"failed": "cannot be decoded"}')
        continue
    if "large" in words[1:]:
        words = words[:words.index("large", 1)]  # a group of its own
    if "large" in words:
        time.sleep(0.4)
    poisoned = words[-1]
    if "spill" in words:
        os.pwrite(tensors, b"\\xff" * 16 * 16, 0)
    for word, (_, _, tensor) in zip(words, pictures):
        os.pwrite(tensors, struct.pack("<4f", *[float(len(word))] * 4), tensor * 16)
    peer.send(json.dumps({"refused": ["is refused" if word == "refuse" else None for word in words]}).encode())
    if "retire" in words:
        sys.exit(0)
"""
)


class Request:
    """A request as Triton's stub gives it to a model."""

    def __init__(self, *pictures: bytes) -> None:
        """Takes encoded pictures of one length."""
        self._pictures = np.array([np.frombuffer(picture, dtype=np.uint8) for picture in pictures])

    def as_numpy(self) -> np.ndarray:
        return self._pictures


def words(*pictures: str) -> Request:
    """Returns a request with pictures for the decoder that is made up."""
    longest = max(map(len, pictures))
    return Request(*(picture.encode().ljust(longest, b"\0") for picture in pictures))


class BackendTest(unittest.TestCase):
    """What becomes of requests, whatever becomes of the decoder."""

    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, value in {"START_EVERY": 0.0, "ANSWER_WITHIN": 1.0, "END_WITHIN": 0.5}.items():
            self.enterContext(mock.patch.object(backend_dali, name, value))
        self.model = self.load("model")

    def load(self, name: str) -> backend_dali.TritonPythonModel:
        folder = self.root / name / "1"
        folder.mkdir(parents=True)
        (folder / "decoder.py").write_text(MADE_UP_DECODER)
        config = {"max_batch_size": 16, "parameters": {}, "output": {"dims": SHAPE}}
        model = backend_dali.TritonPythonModel()
        model.initialize(
            {"model_config": json.dumps(config), "model_repository": str(self.root / name), "model_version": "1"}
        )
        self.addCleanup(model.finalize)
        return model

    def answers(self, *requests: Request) -> list[Any]:
        """Returns an error, or for each picture of a request the length of the word."""
        return [
            answer if isinstance(answer, tuple) else [int(tensor[0, 0]) for tensor in answer]
            for answer in self.model.execute(list(requests))
        ]

    def test_good(self) -> None:
        self.assertEqual(self.answers(words("a"), words("bb", "ccc"), words("dddd")), [[1], [2, 3], [4]])

    def test_one_bad_among_good(self) -> None:
        for bad, want in {
            "refuse": "is refused",
            "fail": "cannot be decoded",
            "die": "cannot be decoded: the process that tried ended (SIGSEGV)",
            "exit": "cannot be decoded: the process that tried ended (exit status 7)",
            "hang": "cannot be decoded: that was not done after 1 s",
            **dict.fromkeys(NONSENSE, "cannot be decoded: the process that tried ended (SIGKILL)"),
        }.items():
            for at in (0, 3):
                with self.subTest(bad=bad, at=at):
                    batch = [words("a"), words("bb"), words("ccc"), words("dddd")]
                    batch.insert(at, words(bad))
                    wanted: list[Any] = [[1], [2], [3], [4]]
                    wanted.insert(at, ("invalid", f"the picture {want}"))
                    self.assertEqual(self.answers(*batch), wanted)

    def test_bad_one_alone_names_its_place(self) -> None:
        self.assertEqual(
            self.answers(words("a", "fail", "a"), words("b")), [("invalid", "picture 2 of 3 cannot be decoded"), [1]]
        )

    def test_all_bad(self) -> None:
        for answer in self.answers(words("die"), words("die"), words("fail")):
            self.assertEqual(answer[0], "invalid")

    def test_next_picture_is_not_blamed(self) -> None:
        self.assertEqual(self.answers(words("poison")), [[6]])
        self.assertEqual(self.answers(words("a")), [[1]])
        self.assertEqual(self.answers(words("drowse")), [[6]])
        self.assertEqual(self.answers(words("a")), [[1]])
        bad = ("invalid", "the picture cannot be decoded: the process that tried ended (SIGSEGV)")
        self.assertEqual(self.answers(words("poison"), words("die"), words("a")), [[6], bad, [1]])

    def test_request_ends_with_its_first_bad_picture(self) -> None:
        with mock.patch.object(self.model._decoder, "decode", wraps=self.model._decoder.decode) as tries:  # noqa: SLF001
            bad = ("invalid", "picture 1 of 8 cannot be decoded: the process that tried ended (SIGSEGV)")
            self.assertEqual(self.answers(words(*["die"] * 8), words("a")), [bad, [1]])
        self.assertLessEqual(tries.call_count, 6)

    def test_batch_ends_in_time(self) -> None:
        with mock.patch.object(backend_dali, "BATCH_WITHIN", 0.5):
            first, *others = self.answers(words("hang"), words("hang"), words("a"))
        self.assertEqual({kind for kind, _ in (first, *others)}, {"unavailable"})
        self.assertIn("send it again", first[1])
        self.assertEqual(self.answers(words("a")), [[1]])

    def test_decoder_that_retires(self) -> None:
        for _ in range(3):
            self.assertEqual(self.answers(words("retire"), words("a")), [[6], [1]])
            self.model._decoder._process.wait()  # noqa: SLF001
            self.assertEqual(self.answers(words("a")), [[1]])

    def test_batch_is_forgotten(self) -> None:
        self.answers(words("a"))
        self.assertEqual(os.fstat(self.model._decoder._encoded).st_size, 0)  # noqa: SLF001

    def test_decoder_ends_between_requests(self) -> None:
        process = self.model._decoder._process  # noqa: SLF001
        process.kill()
        process.wait()
        self.assertEqual(self.answers(words("a")), [[1]])

    def test_groups_have_the_time_each(self) -> None:
        with mock.patch.object(backend_dali, "BATCH_WITHIN", 0.6):  # which is for what fails
            self.assertEqual(self.answers(words("a", "large", "large", "bb", "large")), [[1, 5, 5, 2, 5]])

    def test_group_with_a_bad_picture(self) -> None:
        bad = ("invalid", "the picture cannot be decoded: the process that tried ended (SIGSEGV)")
        self.assertEqual(
            self.answers(words("a"), words("large"), words("die"), words("large"), words("bb")),
            [[1], [5], bad, [5], [2]],
        )

    def test_what_is_decoded_later_overwrites_nothing(self) -> None:
        self.assertEqual(
            self.answers(words("a"), words("large"), words("spill"), words("large"), words("fail")),
            [[1], [5], [5], [5], ("invalid", "the picture cannot be decoded")],
        )

    def test_starts_are_apart(self) -> None:
        starts = []
        with mock.patch.object(backend_dali, "START_EVERY", 0.4):
            for _ in range(3):
                self.answers(words("a"), words("die"))
                starts.append(self.model._decoder._started)  # noqa: SLF001
        self.assertGreaterEqual(min(np.diff(starts)), 0.4)

    def test_decoder_that_does_not_start(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "the pipeline does not load"):
            self.load("broken")
        with self.assertRaisesRegex(RuntimeError, "exit status 3"):
            self.load("dies")

    def test_decoder_that_does_not_start_again(self) -> None:
        program = self.root / "model" / "1" / "decoder.py"
        program.rename(program.with_suffix(".away"))
        self.answers(words("die"))  # by the one that was there
        answers = self.answers(words("a"), words("a"))
        self.assertIsNot(*answers)  # tritonserver ends with SIGSEGV if two responses share an error
        code, text = answers[0]
        self.assertEqual(code, "internal")
        self.assertIn("no picture can be decoded now", text)
        program.with_suffix(".away").rename(program)
        self.assertEqual(self.answers(words("a")), [[1]])

    def test_decoder_ends_with_the_backend(self) -> None:
        process = self.model._decoder._process  # noqa: SLF001
        self.model.finalize()
        self.assertIsNotNone(process.poll())


class DecoderTest(unittest.TestCase):
    """What decoder.py does with real pictures, which the test is given by their folder."""

    def setUp(self) -> None:
        self.pictures = Path("/pictures")
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        model = self.root / "model.dali"
        command = [
            "python3",
            "/dalirun/python/serialize_dali.py",
            "--size",
            "224",
            "--mean",
            "0.485,0.456,0.406",
            "--std",
            "0.229,0.224,0.225",
            "--device",
            "cpu",
            "--max-batch",
            "8",
            "--threads",
            "2",
        ]
        said = subprocess.run([*command, "--output", str(model)], check=True, capture_output=True, text=True)  # noqa: S603
        self.facts = json.loads(said.stdout)
        config = {
            "model": str(model),
            "max_batch": 8,
            "threads": 2,
            "max_pixels": 10_000_000,
            "shape": [3, 224, 224],
        }
        self.enterContext(mock.patch.object(backend_dali, "START_EVERY", 0.0))
        self.decoder = backend_dali.Decoder(Path("/dalirun/python/decoder.py"), config)
        self.addCleanup(self.decoder.stop)

    def read(self, name: str) -> np.ndarray:
        return np.frombuffer((self.pictures / name).read_bytes(), dtype=np.uint8)

    def test_orientation_is_off(self) -> None:
        self.assertEqual(self.facts["adjust_orientation"], "off")

    def test_one_message_decodes_several(self) -> None:
        good = self.read("00-good.jpg")
        pictures = [good, self.read("width-negative.tif"), good, np.zeros(0, np.uint8), self.read("bmp-16-565.bmp")]
        first, negative, third, empty, masks = self.decoder.decode(self.decoder.put(pictures))
        self.assertEqual((first, third), (None, None))
        self.assertIn("damaged header", negative)
        self.assertEqual(empty, "is empty")
        self.assertIn("colour masks", masks)
        np.testing.assert_array_equal(self.decoder.tensors[0], self.decoder.tensors[2])
        self.assertGreater(np.abs(self.decoder.tensors[0]).max(), 0)

    def test_kinds_that_dali_misreads_are_refused(self) -> None:
        kinds = {
            "jpg-cmyk-no-adobe.jpg": "Adobe",
            "jpg-cmyk-comment.jpg": "Adobe",
            "pnm-long-comment.pgm": "another header",
            "tif-twice-orientation.tif": "has tag 274 twice",
            "tif-twice-bits.tif": "has tag 258 twice",
            "tif-twice-colours.tif": "has tag 262 twice",
            "j2k-grey12.jp2": "JPEG 2000",
            "j2k-sycc.jp2": "JPEG 2000",
            "pnm-p5-100.pgm": "samples up to 100",
            "pnm-p2-1023.pgm": "samples up to 1023",
            "tif-cielab.tif": "colour space",
            "tif-grey-alpha.tif": "alpha channel",
            "tif-rgb-jpeg2000.tif": "compression method 34712",
            "tif-rgb16-planar.tif": "channels apart",
            "tif-rgba-planar.tif": "channels apart",
            "tif-cmyk-orientation-6.tif": "orientation",
            "tif-planar-orientation-6.tif": "orientation",
            "tif-12-orientation-6.tif": "orientation",
            "tif-rgb12-orientation-6.tif": "orientation",
            "tif-white-is-zero8-orientation-2.tif": "orientation",
        }
        for name, says in kinds.items():
            with self.subTest(name):
                (refused,) = self.decoder.decode(self.decoder.put([self.kind(name)]))
                self.assertIn(says, refused)

    def test_tiff_tags_that_decoders_take_for_different_things_are_refused(self) -> None:
        turned, planes, fill = "tif-planar-orientation-6.tif", "tif-rgba-planar.tif", "tif-fill-order-2.tif"
        upright, no_type = (274, 3, 1, 1), (274, 99, 1, 1)
        cases = {
            "twice": (turned, [(274, 3, 1, 6), upright], "has tag 274 twice"),
            "twice, the other first": (turned, [upright, (274, 3, 1, 6)], "has tag 274 twice"),
            "twice, of no type": (turned, [(274, 3, 1, 6), no_type], "has tag 274 twice"),
            "twice, of no type first": (turned, [no_type, upright], "1 values of type 99 in its tag 274"),
            "colours": ("tif-cmyk-orientation-6.tif", [(262, 3, 1, 5), (262, 3, 1, 2)], "has tag 262 twice"),
            "bits": ("tif-12-orientation-6.tif", [(258, 3, 1, 12), (258, 3, 1, 16)], "has tag 258 twice"),
            "grey bits": ("tif-grey4.tif", [(258, 3, 1, 4), (258, 3, 1, 8)], "has tag 258 twice"),
            "channels": ("tif-grey-uint32.tif", [(277, 3, 1, 1), (277, 3, 1, 3)], "has tag 277 twice"),
            "what means nothing": ("tif-rgb8.tif", [(65000, 3, 1, 1), (65000, 3, 1, 1)], "has tag 65000 twice"),
            "a byte": (turned, [(274, 1, 1, 6)], "1 values of type 1 in its tag 274"),
            "signed": (turned, [(274, 9, 1, 6)], "1 values of type 9 in its tag 274"),
            "no type": (turned, [no_type], "1 values of type 99 in its tag 274"),
            "two": (turned, [(274, 3, 2, 6)], "2 values of type 3 in its tag 274"),
            "none": (turned, [(274, 3, 0, 6)], "0 values of type 3 in its tag 274"),
            "64 bits elsewhere": (turned, [(274, 16, 1, 8)], "1 values of type 16 in its tag 274"),
            "planes in a byte": (planes, [(284, 1, 1, 2)], "1 values of type 1 in its tag 284"),
            "fill order in a byte": (fill, [(266, 1, 1, 2)], "1 values of type 1 in its tag 266"),
        }
        for name, (file, entries, says) in cases.items():
            with self.subTest(name):
                picture = np.frombuffer(self.with_entries(self.kind(file).tobytes(), entries), dtype=np.uint8)
                (refused,) = self.decoder.decode(self.decoder.put([picture]))
                # nvImageCodec reads some of them itself, and then does not know the format.
                self.assertRegex(refused or "", f"{says}|in no format that DALI reads")
                with self.assertRaisesRegex(decoder.Misread, says):
                    decoder.tiff_tags(picture.tobytes())

    @staticmethod
    def with_entries(tiff: bytes, new: list[tuple[int, int, int, int]]) -> bytes:
        """Returns a TIFF with other entries (tag, type, count, value) of a tag in the place of those that it has."""
        (place,) = struct.unpack_from("<I", tiff, 4)
        (count,) = struct.unpack_from("<H", tiff, place)
        entries = list(struct.iter_unpack("<HHII", tiff[place + 2 : place + 2 + 12 * count]))
        entries = sorted([entry for entry in entries if entry[0] != new[0][0]] + new, key=lambda entry: entry[0])
        tiff += b"\0" * (len(tiff) % 2)
        directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        head = tiff[:4] + struct.pack("<I", len(tiff))
        return head + tiff[8:] + struct.pack("<H", len(entries)) + directory + bytes(4)

    def test_tiff_tags_are_those_of_the_first_directory(self) -> None:
        small, large = struct.pack("<HHII", 274, 3, 1, 6), struct.pack("<HHQQ", 274, 16, 1, 6)
        big = b"II+\0\x08\0\0\0"
        for name, tiff in {
            "small": b"II*\0\x08\0\0\0\x01\0" + small,
            "its order": b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 274, 3, 1, 6, 0),
            "big": big + struct.pack("<QQ", 16, 1) + large,
            "big, its order": b"MM\0+\0\x08\0\0" + struct.pack(">QQHHQQ", 16, 1, 274, 16, 1, 6),
        }.items():
            with self.subTest(name):
                self.assertEqual(decoder.tiff_tags(tiff), {274: 6})
                self.assertEqual(decoder.tiff_tags(tiff + tiff), {274: 6})
        for name, tiff in {
            "no directory": b"II*\0\x08\0\0\0",
            "a place behind it": b"II*\0\xff\0\0\0\x01\0" + small,
            "a place that no file has": big + struct.pack("<QQ", 2**64 - 1, 1) + large,
            "fewer entries": b"II*\0\x08\0\0\0\x02\0" + small,
            "half of one": b"II*\0\x08\0\0\0\x01\0" + small[:6],
            "entries that no file has": big + struct.pack("<QQ", 16, 2**64 - 1) + large,
            "millions of entries": big + struct.pack("<QQ", 16, 3_000_000) + large * 3_000_000,
        }.items():
            with self.subTest(name), self.assertRaisesRegex(decoder.Misread, "directory|twice"):
                decoder.tiff_tags(tiff)

    def test_adobe_segment_is_one_before_the_first_scan(self) -> None:
        segment = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x02"
        start, scan = b"\xff\xd8", b"\xff\xda\0\x02"
        for name, (jpeg, has) in {
            "at once": (start + segment, True),
            "behind others": (start + b"\xff\xfe\0\x05abc\xff\xff\xdb\0\x02" + segment, True),
            "a comment": (start + b"\xff\xfe\0\x07Adobe" + scan, False),
            "in a comment": (start + b"\xff\xfe\0\x12" + segment + scan, False),
            "behind a scan": (start + scan + segment, False),
            "behind the end": (start + b"\xff\xd9" + segment, False),
            "short": (start + b"\xff\xee\0\x0dAdobe\0\x64\0\0\0\0" + scan, False),
            "another's": (start + segment.replace(b"Adobe", b"Adobo") + scan, False),
            "not where a marker is": (start + b"\0" + segment, False),
            "behind no marker": (start + b"\xff\0\0\x02" + segment, False),
            "behind a segment of no length": (start + b"\xff\xfe\0\0" + segment, False),
            "cut": (start + segment[:3], False),
            "behind thousands": (start + b"\xff\xfe\0\x02" * 5000 + segment, False),
        }.items():
            with self.subTest(name):
                self.assertEqual(decoder.has_adobe_segment(jpeg), has)
        for name, has in {"jpg-cmyk.jpg": True, "jpg-ycck.jpg": True, "jpg-cmyk-no-adobe.jpg": False}.items():
            with self.subTest(name):
                self.assertEqual(decoder.has_adobe_segment(self.kind(name).tobytes()), has)

    def test_what_hides_in_comments_is_found(self) -> None:
        ink = self.kind("jpg-cmyk-no-adobe.jpg").tobytes()
        samples = bytes([100]) * 16
        for name, picture, says in (
            ("Adobe", ink[:2] + b"\xff\xfe\0\x07Adobe" + ink[2:], "no segment of Adobe's"),
            ("far", b"P5\n#" + b"x" * 5000 + b"\n4 4\n100\n" + samples, "another header"),
            ("return", b"P5\n#x\r4 4 100 \n4 4 255\n" + samples, "another header"),
            ("touching", b"P5\n4 4#100 \n255\n" + samples, "another header"),
            ("digits", b"P5\n4 4 00000000100\n" + samples, "another header"),
            ("seen", b"P5\n#x\r\n4 4\n#y\n100\n" + samples, "samples up to 100"),
        ):
            with self.subTest(name):
                (refused,) = self.decoder.decode(self.decoder.put([np.frombuffer(picture, dtype=np.uint8)]))
                self.assertRegex(refused or "", f"{says}|in no format that DALI reads")

    def test_their_neighbours_are_decoded(self) -> None:
        names = [
            "j2k-rgb16.jp2",
            "jpg-cmyk.jpg",
            "pnm-p2-100.pgm",
            "pnm-p5-65535.pgm",
            "tif-rgb-planar.tif",
            "tif-rgb-bigtiff.tif",
            "tif-rgb-orientation-6.tif",
            "pnm-p6-comment.ppm",
        ]
        pictures = [self.kind(name) for name in names]
        self.assertEqual(self.decoder.decode(self.decoder.put(pictures)), [None] * len(names))

    def test_exif_behind_a_chunk_of_odd_length_is_left_out(self) -> None:
        pictures = [self.kind(name) for name in ("webp-lossless-exif.webp", "webp-alpha-exif.webp")]
        self.assertEqual(self.decoder.decode(self.decoder.put(pictures)), [None, None])
        self.assertGreater(np.abs(self.decoder.tensors[0]).max(), 0)

    @staticmethod
    def kind(name: str) -> np.ndarray:
        return np.frombuffer((Path("/kinds") / name).read_bytes(), dtype=np.uint8)

    def test_memory_is_limited(self) -> None:
        # A thread of DALI's that begins late would map an arena of 64 MiB after the limit is set.
        self.enterContext(mock.patch.object(backend_dali, "ARENAS", "1"))
        pid = self.pid()
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        (line,) = (line for line in limits.splitlines() if line.startswith("Max address space"))
        used = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGESIZE")
        self.assertAlmostEqual(int(line.split()[3]) - used, 2 << 30, delta=64 << 20)

    def test_it_retires_before_its_memory_is_used_up(self) -> None:
        large = self.bmp(2000, 2000)
        self.decoder.decode(self.decoder.put([large]))
        first = self.pid()
        program = Path("/dalirun/python/decoder.py").read_text(encoding="utf-8").replace("MEMORY // 2", "(1 << 20)")
        (self.root / "decoder.py").write_text(program, encoding="utf-8")
        self.decoder._program = self.root / "decoder.py"  # noqa: SLF001
        self.decoder.stop()
        for _ in range(3):
            self.assertEqual(self.decoder.decode(self.decoder.put([large])), [None])
        self.assertNotEqual(self.pid(), first)

    def test_too_many_pixels_are_decoded_in_groups(self) -> None:
        large = self.bmp(2000, 2000)  # three of them are more than max_pixels
        pictures = self.decoder.put([large] * 3)
        self.assertEqual(self.decoder.decode(pictures), [None] * 2)
        self.assertEqual(np.abs(self.decoder.tensors[2]).max(), 0)
        self.assertEqual(self.decoder.decode(pictures[2:]), [None])
        np.testing.assert_array_equal(self.decoder.tensors[0], self.decoder.tensors[2])
        (refused,) = self.decoder.decode(self.decoder.put([self.bmp(4000, 4000)]))
        self.assertIn("is too large: 4000x4000", refused)

    def test_too_many_bytes_are_not_read(self) -> None:
        good = self.read("00-good.jpg")
        padded = np.zeros((64 << 20) + 1, np.uint8)
        padded[: good.size] = good
        (refused,) = self.decoder.decode(self.decoder.put([padded]))
        self.assertEqual(refused, "is too large: 67108865 bytes, want at most 67108864")
        self.assertEqual(self.decoder.decode(self.decoder.put([padded[:-1]])), [None])

    @staticmethod
    def bmp(width: int, height: int) -> np.ndarray:
        """Returns a grey BMP of 24 bits a pixel; width divides by four."""
        pixels = bytes([128]) * (3 * width * height)
        header = struct.pack(
            "<2sIIIIiiHHIIiiII", b"BM", 54 + len(pixels), 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
        )
        return np.frombuffer(header + pixels, dtype=np.uint8)

    def test_it_ends_with_its_parent(self) -> None:
        script = (
            "import os, socket, subprocess, sys, time\n"
            "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "n, m = theirs.fileno(), os.memfd_create('tensors')\n"
            "os.ftruncate(m, 8 * 3 * 224 * 224 * 4)\n"
            "p = subprocess.Popen(['python3', '/dalirun/python/decoder.py', *map(str, (n, m, m))], pass_fds=[n, m])\n"
            f"ours.send({self.decoder._config!r})\n"  # noqa: SLF001
            "ours.recv(100)\n"
            "print(p.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
            pid = int(parent.stdout.readline())
            os.kill(pid, signal.SIGSTOP)  # it cannot see that its socket is closed
            parent.kill()
        deadline = time.monotonic() + 10
        while self.state(pid) not in ("", "Z"):
            self.assertLess(time.monotonic(), deadline, "it is still there")
            time.sleep(0.01)

    @staticmethod
    def state(pid: int) -> str:
        """Returns the letter of a process's state, or nothing if there is none."""
        try:
            return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
        except OSError:
            return ""

    def pid(self) -> int:
        self.decoder.start()
        return self.decoder._process.pid  # noqa: SLF001


if __name__ == "__main__":
    unittest.main()
