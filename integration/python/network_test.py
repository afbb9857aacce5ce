"""Tests how network.py reads checkpoints, with the real PyTorch and one that lacks weights_only."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable
from unittest import mock

import torch

import network
from program import Problem

RESNET50 = network.Recipe("resnet50", 1000, 224)


class Payload:
    """What a pickle can hold: a call of any function, made when it is read. This one makes a folder."""

    def __init__(self, folder: Path) -> None:
        """Makes one that makes folder."""
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """Says what to call."""
        return os.mkdir, (str(self.folder),)


def without_weights_only(load: Callable[..., object]) -> Callable[..., object]:
    """Returns load as PyTorch before 1.13 has it."""

    def old(file: object, map_location: str, **more: object) -> object:
        if more:
            raise TypeError(f"unexpected {more}")
        return load(file, map_location=map_location, weights_only=False)

    return old


class LoadTest(unittest.TestCase):
    """Tests of load."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ran = self.folder / "ran"
        torch.manual_seed(7)
        self.state = RESNET50.build().state_dict()

    def save(self, name: str, content: object, **options: Any) -> Path:
        """Returns a checkpoint with the content."""
        path = self.folder / name
        torch.save(content, path, **options)
        return path

    def test_weights_are_read(self) -> None:
        parameters = {name: torch.nn.Parameter(value, requires_grad=False) for name, value in self.state.items()}
        parallel = {"module." + name: value for name, value in self.state.items()}
        for path in (
            self.save("state.pth", self.state),
            self.save("before-1.6.pth", self.state, _use_new_zipfile_serialization=False),
            self.save("parameters.pth", parameters),
            self.save("parallel.pth", parallel),
            self.save("lightning.pth", {"epoch": 3, "state_dict": self.state}),
        ):
            for trusted in (True, False):
                with self.subTest(path.name, trusted=trusted):
                    model = network.load(RESNET50, path, trusted=trusted)
                    self.assertFalse(model.training)
                    for name, value in model.state_dict().items():
                        self.assertTrue(torch.equal(value, self.state[name]), name)

    def test_old_names_of_dense_layers(self) -> None:
        dense = network.Recipe("densenet121", 10, 224)
        state = dense.build().state_dict()
        old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2", name): value for name, value in state.items()}
        self.assertIn("features.denseblock1.denselayer1.norm.1.weight", old)
        model = network.load(dense, self.save("old.pth", old), trusted=False)
        for name, value in model.state_dict().items():
            self.assertTrue(torch.equal(value, state[name]), name)

    def test_another_network_is_told(self) -> None:
        path = self.save("resnet50.pth", self.state)
        for other, says in (
            (network.Recipe("resnet50", 10, 224), "does not fit resnet50 of 10 classes: fc.weight has shape"),
            (network.Recipe("densenet121", 1000, 224), "does not fit densenet121: missing "),
            (network.Recipe("resnet51", 1000, 224), "has no network resnet51"),
        ):
            with self.subTest(says), self.assertRaisesRegex(Problem, says):
                network.load(other, path, trusted=False)

    def test_code_is_never_run(self) -> None:
        bare = self.folder / "bare.pth"
        bare.write_bytes(pickle.dumps(Payload(self.ran), protocol=2))
        for path in (self.save("hostile.pth", {**self.state, "more": Payload(self.ran)}), bare):
            for trusted in (True, False):
                with self.subTest(path.name, trusted=trusted):
                    with self.assertRaisesRegex(Problem, r"no.* checkpoint of tensors alone \(.*model\.state_dict\(\)"):
                        network.load(RESNET50, path, trusted=trusted)
                    self.assertFalse(self.ran.exists())

    def test_pytorch_that_runs_code(self) -> None:
        good = self.save("state.pth", self.state)
        hostile = self.save("hostile.pth", {**self.state, "more": Payload(self.ran)})
        with mock.patch.object(torch, "load", without_weights_only(torch.load)):
            for path in (good, hostile):
                with self.assertRaisesRegex(Problem, "running the code in it: use an image with PyTorch 1.13 or newer"):
                    network.load(RESNET50, path, trusted=False)
            self.assertFalse(self.ran.exists())
            self.assertTrue(torch.equal(network.load(RESNET50, good, trusted=True).fc.bias, self.state["fc.bias"]))
            with self.assertRaisesRegex(Problem, "'more', which is no tensor"):
                network.load(RESNET50, hostile, trusted=True)
            self.assertTrue(self.ran.exists())  # so this payload is one


if __name__ == "__main__":
    unittest.main()
