"""Makes a network's weights from a seed, for machines that cannot have trained ones.

Untrained weights as they are drawn give every picture the same answer: activations grow from block to block until one
direction outweighs what the picture says, and a comparison on such an answer cannot fail. So the residual branches are
damped, and these are fitted on synthetic pictures: the batch-norm statistics, the head's bias (the average picture gets
zero logits) and the head's scale.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

import network
from program import Facts, Parser, Problem, run

CALIBRATION_PICTURES = 32
HELD_OUT_PICTURES = 16

# Weight of a block's last batch-norm, against 1 of the path around the block. With 1 half of all photographs tried got
# one and the same class; with 0.4 a fifth did.
RESIDUAL_WEIGHT = 0.4

# Standard deviation of the logits over the calibration pictures. Of 1000 normal values the largest is about 3.2
# deviations out; photographs reach 6 to 20, as with trained weights.
LOGIT_STD = 2.5

# What held-out pictures must show, or the weights are of no use for a comparison.
MAX_ABS_LOGIT = 60.0
MIN_DISTINCT_CLASSES = HELD_OUT_PICTURES // 2
FEW_CLASSES = 4  # of a network with few, one in so many is to be seen, and two at least

# A synthetic picture is a background and this many blots upon it.
BLOTS = 6

# Side lengths, in cells, of the grids that noise is a sum of.
SCALES = (2, 4, 7, 14, 28, 56, 112, 224)


def synthetic_pictures(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Returns [count,3,size,size] RGB pictures in 0..1 with what photographs have: edges, flat parts, shading, grain.

    The edges matter most: with the statistics of smooth noise alone a photograph's edges drive the logits to 100-400.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    def colour() -> torch.Tensor:
        return torch.rand(count, 3, 1, 1, generator=generator)

    def noise(channels: int, slope: torch.Tensor) -> torch.Tensor:
        """Returns noise of mean 0 and deviation 1; a larger slope is softer, 0 is grain."""
        total = torch.zeros(count, channels, size, size)
        for cells in SCALES:
            grid = torch.randn(count, channels, cells, cells, generator=generator) * (SCALES[0] / cells) ** slope
            total += torch.nn.functional.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False)
        deviation, mean = torch.std_mean(total, dim=(1, 2, 3), keepdim=True)
        return (total - mean) / deviation

    pictures = colour().expand(-1, -1, size, size)
    for _ in range(BLOTS):
        blot = noise(1, uniform(1.0, 2.5)) > uniform(-0.5, 1.5)
        shading = uniform(0.0, 0.3) * noise(1, uniform(1.0, 2.0))
        texture = uniform(0.0, 0.15) * noise(3, uniform(0.0, 1.5))
        pictures = torch.where(blot, colour() + shading + texture, pictures)
    grain = uniform(0.0, 0.1) * noise(3, uniform(0.0, 1.0))
    return (pictures + grain).clamp(0.0, 1.0)


def head_of(model: torch.nn.Module, classes: int) -> torch.nn.Linear:
    """Returns the layer that answers: the last linear one, with an output for each class."""
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    if not linear or linear[-1].out_features != classes:
        raise Problem("seeded weights need a network that ends in a linear layer: name a checkpoint with --weights")
    return linear[-1]


def calibrate(model: torch.nn.Module, inputs: torch.Tensor, classes: int) -> None:
    """Fits the statistics of batch-norms, if there are any, and the head to normalized pictures."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics become this batch's own
            module.train()
        if hasattr(module, "bn3"):
            module.bn3.weight.fill_(RESIDUAL_WEIGHT)
    head = head_of(model, classes)
    seen: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda _module, features, _answer: seen.append(features[0]))
    model(inputs)
    hook.remove()
    model.eval()
    (features,) = seen
    mean = features.mean(dim=0)
    head.weight.mul_(LOGIT_STD / ((features - mean) @ head.weight.t()).std())
    head.bias.copy_(-(head.weight @ mean))


def parse() -> Parser:
    """Returns the parser of this script's arguments."""
    parser = Parser(description="Make weights from a seed, calibrated on synthetic pictures.")
    network.add_arguments(parser)
    network.add_normalization(parser)
    parser.add_argument("--seed", type=int, required=True, help="0 to 2^32-1; one seed gives one file")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="checkpoint to write (.pth)")
    return parser


def main() -> Facts:
    """Writes the weights and returns what they do on pictures that they were not calibrated on."""
    parser = parse()
    args = parser.parse_args()
    if not 0 <= args.seed < 1 << 32:
        parser.error(f"--seed is {args.seed}, want 0 to 2^32-1")

    recipe = network.recipe(args)

    torch.manual_seed(args.seed)
    model = recipe.build()
    generator = torch.Generator().manual_seed(args.seed)

    def pictures(count: int) -> torch.Tensor:
        return network.normalize(synthetic_pictures(count, recipe.size, generator), args.mean, args.std)

    with torch.no_grad():
        calibrate(model, pictures(CALIBRATION_PICTURES), recipe.classes)
        logits = model(pictures(HELD_OUT_PICTURES))
    largest = float(logits.abs().max())
    distinct = len(set(logits.argmax(dim=1).tolist()))
    wanted = min(MIN_DISTINCT_CLASSES, max(2, recipe.classes // FEW_CLASSES))
    if not largest <= MAX_ABS_LOGIT or distinct < wanted:
        raise RuntimeError(
            f"seed {args.seed}: {distinct} different classes for {HELD_OUT_PICTURES} pictures (want at least "
            f"{wanted}), largest logit {largest} (want at most {MAX_ABS_LOGIT})"
        )

    # Through memory: PyTorch puts a file's own name into the archive, and the bytes would depend on it.
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    args.output.write_bytes(buffer.getvalue())
    return {
        **network.versions(),
        "seed": args.seed,
        "held_out_pictures": HELD_OUT_PICTURES,
        "distinct_classes": distinct,
        "logits_max_abs": round(largest, 3),
    }


if __name__ == "__main__":
    run(main)
