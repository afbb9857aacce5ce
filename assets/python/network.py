"""A recipe's network and its weights, on any PyTorch from 1.10 on."""

from __future__ import annotations

import inspect
import io
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torchvision

from program import Problem, one_line, read

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from program import Parser

# Keys under which training scripts put the weights among other things: Lightning and timm, torchvision's own.
_WRAPPERS = ("state_dict", "model")
_PARALLEL_PREFIX = "module."


# Names that torchvision's first DenseNets had, in checkpoints that it still serves.
_OLD_DENSE_LAYER = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


class Recipe(NamedTuple):
    """What of a recipe the network depends on."""

    network: str  # a classifier in torchvision.models
    classes: int
    size: int  # of each side of a picture, in pixels

    def build(self) -> torch.nn.Module:
        """Returns an untrained network drawn from torch's global random generator, in evaluation mode."""
        known = getattr(torchvision.models, self.network, None)
        if not callable(known):
            raise Problem(
                f"torchvision {torchvision.__version__} has no network {self.network}: use an image with a newer one"
            )
        return known(num_classes=self.classes).eval()


def add_arguments(parser: Parser) -> None:
    """Adds the arguments of a Recipe."""
    parser.add_argument("--network", required=True, metavar="NAME", help="a classifier in torchvision.models")
    parser.add_argument("--classes", type=int, required=True, metavar="N", help="how many it tells apart")
    parser.add_argument("--size", type=int, required=True, metavar="PIXELS", help="of each side of its input")


def recipe(args: Namespace) -> Recipe:
    """Returns the Recipe of parsed arguments."""
    return Recipe(args.network, args.classes, args.size)


def channels(text: str) -> tuple[float, ...]:
    """Returns a figure for each of red, green and blue, written as 0.485,0.456,0.406."""
    values = tuple(float(value) for value in text.split(","))
    if len(values) != 3:  # noqa: PLR2004 - red, green and blue
        raise ValueError(text)
    return values


def add_normalization(parser: Parser) -> None:
    """Adds the arguments of normalize."""
    parser.add_argument("--mean", type=channels, required=True, metavar="R,G,B", help="of pictures in 0..1")
    parser.add_argument("--std", type=channels, required=True, metavar="R,G,B", help="of pictures in 0..1")


def normalize(pictures: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Returns [N,3,H,W] RGB pictures in 0..1 as the network expects them."""
    return (pictures - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def load(of: Recipe, path: Path, *, trusted: bool) -> torch.nn.Module:
    """Returns the network with the checkpoint's weights, in evaluation mode and fp32.

    A checkpoint is a pickle, which can run code when it is read. PyTorch reads tensors alone from it, where it can; one
    that cannot, before 1.13, reads only a trusted file: one that dalirun made, or whose whole hash is known.

    Raises:
        Problem: the file is no checkpoint, holds more than tensors, needs trust, or does not fit the network.
    """
    state = _state_dict(path, _read_checkpoint(path, trusted=trusted))
    model = of.build()
    _check_fit(of, path, state, model.state_dict())
    # Counters of training steps: checkpoints of before PyTorch 0.4.1 lack them, and evaluation does not read them.
    model.load_state_dict(state, strict=False)
    return model


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


def _read_checkpoint(path: Path, *, trusted: bool) -> Any:  # noqa: ANN401 - whatever was pickled
    options: dict[str, Any] = {"map_location": "cpu"}
    if "weights_only" in inspect.signature(torch.load).parameters:
        options["weights_only"] = True
    elif not trusted:
        raise Problem(
            f"PyTorch {torch.__version__} cannot read {path} without running the code in it: "
            "use an image with PyTorch 1.13 or newer (dalirun: a newer --release)"
        )
    content = read(path)
    try:
        with warnings.catch_warnings():
            # Storage classes that old checkpoints name; nothing that a user of the file could act on.
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), **options)
    except Exception as error:
        raise Problem(
            f"{path} is not a PyTorch checkpoint of tensors alone ({_first_sentence(error)}); "
            "if it holds more, save model.state_dict() alone"
        ) from error


def _first_sentence(error: Exception) -> str:
    """Returns how the error's text begins: PyTorch's goes on with a page of advice on its own arguments."""
    return one_line(error).split(". ", 1)[0]


def _state_dict(path: Path, checkpoint: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    for wrapper in _WRAPPERS:
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
    if not isinstance(checkpoint, dict):
        raise Problem(
            f"{path} holds a {type(checkpoint).__name__}, want a dictionary of tensors: save model.state_dict()"
        )
    state = {}
    for name, value in checkpoint.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise Problem(f"{path} holds {name!r}, which is no tensor: save model.state_dict()")
        own = name[len(_PARALLEL_PREFIX) :] if name.startswith(_PARALLEL_PREFIX) else name
        state[_OLD_DENSE_LAYER.sub(r"\1\2", own)] = value
    return state


def _check_fit(of: Recipe, path: Path, have: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    missing = [name for name in want if name not in have and not name.endswith("num_batches_tracked")]
    unknown = [name for name in have if name not in want]
    if missing or unknown:
        raise Problem(f"{path} does not fit {of.network}: missing {_some(missing)}; unknown {_some(unknown)}")
    for name, value in have.items():
        if value.shape != want[name].shape:
            raise Problem(
                f"{path} does not fit {of.network} of {of.classes} classes: {name} has shape {list(value.shape)}, "
                f"want {list(want[name].shape)}"
            )
        if not torch.isfinite(value).all():
            raise Problem(f"{path} has NaN or infinity in {name}: the file is damaged, or its training diverged")


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - enough to recognize a network by
    return ", ".join(names[:3]) + more
