"""Polynormer's global layer as graphs grow: time and memory, beside attention with the N x N matrix.

    python benchmarks/polynormer.py [--nodes N ...] [--quick] [--device cuda]

Width 64, 8 heads, float32, one graph of N nodes, forward, and the same N in a batch of graphs of 100 nodes; memory is
also given as multiples of the layer's output. The explicit form runs while its matrices take less than 1 GiB. Nothing
is timed before the outputs agree.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor

from geoattn.layers.polynormer import PolynormerGlobalLayer

CHANNELS, HEADS, PER_GRAPH, MATRIX_LIMIT = 64, 8, 100, 2**30


def explicit(layer: PolynormerGlobalLayer, x: Tensor) -> Tensor:
    """The layer with the matrix of all pairs."""
    k, v = (t.unflatten(1, (HEADS, -1)).transpose(0, 1) for t in (torch.sigmoid(layer.key(x)), layer.value(x)))
    weights = k @ k.mT
    attended = ((weights / weights.sum(-1, keepdim=True)) @ v).transpose(0, 1).flatten(1)
    return layer.norm(attended) * (layer.gate(x) + layer.beta())


def measure(nodes: int, repeats: int, device: str) -> list[dict[str, str | float]]:
    """The lines of one size."""
    layer, x = PolynormerGlobalLayer(CHANNELS, HEADS).to(device), torch.randn(nodes, CHANNELS, device=device)
    batch = torch.arange(nodes, device=device) // PER_GRAPH
    steps: dict[str, Callable[[], Tensor]] = {"one graph": lambda: layer(x), "batch": lambda: layer(x, batch)}
    torch.testing.assert_close(layer(x, batch)[:PER_GRAPH], layer(x[:PER_GRAPH]), atol=1e-4, rtol=1e-4)
    if HEADS * nodes**2 * 4 < MATRIX_LIMIT:
        torch.testing.assert_close(layer(x), explicit(layer, x), atol=1e-4, rtol=1e-4)
        steps["N x N"] = lambda: explicit(layer, x)
    size = x.numel() * x.element_size() / 2**20
    rows: list[dict[str, str | float]] = []
    for row in compare(steps, repeats, device):
        rows.append({"nodes": str(nodes), "by": row["by"], "ms": row["ms"], "MiB": row["MiB"]})
        rows[-1] |= {"us per node": 1e3 * row["ms"] / nodes, "times N C floats": row["MiB"] / size}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 4000, 20_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small graphs: shows that it runs, not how fast")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-polynormer.json"))
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    sizes = [1000, 4000] if options.quick else options.nodes
    with torch.no_grad():
        rows = [row for nodes in sizes for row in measure(nodes, options.repeats, options.device)]
    print_and_save(rows, options.out)


if __name__ == "__main__":
    main()
