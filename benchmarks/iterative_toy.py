"""The toy problem of the iterative SE(3)-Transformer: points find places of low potential.

    python benchmarks/iterative_toy.py --steps 300 --seeds 0 1 2

Ten points from a normal distribution (standard deviation 0.5), all pairs; each pair has a number a ~ U(0, 1), and the
potential of a pair at distance r is V(s) = s^4 - s^2 + s / 10 + 0.3219, s = r - a - 1. A model sees positions and a,
moves the points, and its loss is the mean potential of all pairs. Compared after equal training: three passes with
gradients through the geometry, three without, a single pass of as many layers; and gradient descent on the points
themselves (step 0.02, as many steps as there are in the table). arXiv:2102.13419, which trains far longer.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from geoattn.kernels import Neighborhood
from geoattn.models import IterativeSE3Transformer

POINTS, DEGREES, CHANNELS = 10, 3, 4
HIDDEN = " + ".join(f"{CHANNELS}x{degree}{'eo'[degree % 2]}" for degree in range(DEGREES))


def potential(pos: Tensor, pairs: Tensor, a: Tensor) -> Tensor:
    """Mean potential of the pairs."""
    s = (pos[pairs[0]] - pos[pairs[1]]).norm(dim=1) - a[:, 0] - 1
    return (s**4 - s**2 + s / 10 + 0.3219).mean()


def batch(size: int, generator: torch.Generator) -> tuple[Tensor, Neighborhood, Tensor, Tensor]:
    """Positions, graph, ordered pairs and the numbers a of the pairs, in the order of the graph's edges."""
    i = torch.arange(POINTS)
    pairs = torch.stack([i.repeat(POINTS), i.repeat_interleave(POINTS)])
    pairs = pairs[:, pairs[0] != pairs[1]]
    whole = (pairs[:, None] + POINTS * torch.arange(size)[None, :, None]).flatten(1)
    numbers = torch.rand(size, POINTS, POINTS, generator=generator)
    numbers = numbers.triu(1) + numbers.triu(1).transpose(1, 2)
    a = numbers[:, pairs[0], pairs[1]].reshape(-1, 1)
    pos = 0.5 * torch.randn(size * POINTS, 3, generator=generator)
    return pos, Neighborhood.from_edge_index(whole, size * POINTS), whole, a


def train(model: IterativeSE3Transformer, steps: int, size: int, seed: int) -> float:
    """Mean potential on new systems after training."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        pos, nbr, pairs, a = batch(size, generator)
        loss = potential(model(torch.ones(len(pos), 1), pos, nbr, a)[-1], pairs, a)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    pos, nbr, pairs, a = batch(200, torch.Generator().manual_seed(10_000))
    with torch.no_grad():
        return float(potential(model(torch.ones(len(pos), 1), pos, nbr, a)[-1], pairs, a))


def descend(steps: int) -> float:
    """Gradient descent on the points of the same systems."""
    pos, _, pairs, a = batch(200, torch.Generator().manual_seed(10_000))
    pos.requires_grad_()
    for _ in range(steps):
        # the mean over all pairs is scaled so that a point feels the gradient of its own pairs
        gradient = torch.autograd.grad(potential(pos, pairs, a) * pairs.shape[1] / 2, pos)[0]
        pos = (pos - 0.02 * gradient).detach().requires_grad_()
    return float(potential(pos, pairs, a).detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="a .json file for the figures")
    args = parser.parse_args()
    kinds = {
        "three passes, gradients through the geometry": dict(num_iterations=3, num_layers=1),
        "three passes, geometry without gradients": dict(num_iterations=3, num_layers=1, detach_basis=True),
        "one pass of as many layers": dict(num_iterations=1, num_layers=5),
    }
    figures: dict[str, list[float]] = {}
    for name, options in kinds.items():
        began = time.perf_counter()
        for seed in args.seeds:
            torch.manual_seed(seed)
            model = IterativeSE3Transformer("1x0e", HIDDEN, edge_channels=1, **options)
            figures.setdefault(name, []).append(train(model, args.steps, args.batch, seed))
        spread = statistics.stdev(figures[name]) if len(args.seeds) > 1 else 0.0
        mean = statistics.fmean(figures[name])
        print(f"{name:48} {mean:.4f} ± {spread:.4f}   ({time.perf_counter() - began:.0f} s)", flush=True)
    for steps in (3, 25, 100):
        figures[f"gradient descent, {steps} steps"] = [descend(steps)]
        print(f"gradient descent, {steps:3} steps{'':22} {descend(steps):.4f}")
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
