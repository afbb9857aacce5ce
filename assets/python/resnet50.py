"""torchvision's ResNet50 and its weights, on any PyTorch from 1.10 on."""

from __future__ import annotations

import inspect
import io
import warnings
from typing import TYPE_CHECKING, Any

import torch
import torchvision

from program import Problem, one_line, read

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = 1000
SIZE = 224

# What a picture in 0..1 is normalized with, per RGB channel: torchvision's documented preset of its ImageNet models.
# serialize_dali.py has its own figures on purpose: with shared ones a slip would be in both, and no comparison of
# DALI with this side would show it.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Keys under which training scripts put the weights among other things: Lightning and timm, torchvision's own.
_WRAPPERS = ("state_dict", "model")
_PARALLEL_PREFIX = "module."


def network() -> torch.nn.Module:
    """Returns an untrained ResNet50 drawn from torch's global random generator, in evaluation mode."""
    return torchvision.models.resnet50().eval()


def normalize(pictures: torch.Tensor) -> torch.Tensor:
    """Returns [N,3,H,W] RGB pictures in 0..1 as the network expects them."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (pictures - mean) / std


def load(path: Path, *, trusted: bool) -> torch.nn.Module:
    """Returns a ResNet50 with the checkpoint's weights, in evaluation mode and fp32.

    A checkpoint is a pickle, which can run code when it is read. PyTorch reads tensors alone from it, where it can; one
    that cannot, before 1.13, reads only a trusted file: one that dalirun made, or whose whole hash is known.

    Raises:
        Problem: the file is no checkpoint, holds more than tensors, needs trust, or does not fit ResNet50.
    """
    state = _state_dict(path, _read_checkpoint(path, trusted=trusted))
    model = network()
    _check_fit(path, state, model.state_dict())
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
        state[name[len(_PARALLEL_PREFIX) :] if name.startswith(_PARALLEL_PREFIX) else name] = value
    return state


def _check_fit(path: Path, have: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    missing = [name for name in want if name not in have and not name.endswith("num_batches_tracked")]
    unknown = [name for name in have if name not in want]
    if missing or unknown:
        raise Problem(f"{path} does not fit ResNet50: missing {_some(missing)}; unknown {_some(unknown)}")
    for name, value in have.items():
        if value.shape != want[name].shape:
            raise Problem(
                f"{path} does not fit ResNet50: {name} has shape {list(value.shape)}, want {list(want[name].shape)}"
            )
        if not torch.isfinite(value).all():
            raise Problem(f"{path} has NaN or infinity in {name}: the file is damaged, or its training diverged")


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - enough to recognize a network by
    return ", ".join(names[:3]) + more
