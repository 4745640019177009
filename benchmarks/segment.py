"""segment_softmax, segment_reduce and gather_scatter beside PyG's gather, softmax and scatter: time and memory.

    python benchmarks/segment.py [--quick] [--device cuda]

On the CPU 20,000 targets with 16 random sources each, float32, two threads; on CUDA a million. Forward alone, and
forward and backward to every input. Nothing is timed before outputs and gradients agree.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor
from torch_geometric.utils import scatter, softmax

from geoattn.kernels import Neighborhood, gather_scatter, segment_reduce, segment_softmax

Operation = Callable[..., Tensor]
DEGREE = 16


def cases(nodes: int, device: str) -> dict[str, tuple[Operation, Operation, list[Tensor]]]:
    """Name -> ours, PyG's, inputs."""
    target = torch.arange(nodes, device=device).repeat_interleave(DEGREE)
    source = torch.randint(0, nodes, target.shape, device=device)
    nbr, edges = Neighborhood.from_edge_index(torch.stack([source, target]), nodes), len(target)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    def to_targets(values: Tensor, reduce: str = "sum") -> Tensor:
        return scatter(values, target, dim=0, dim_size=nodes, reduce=reduce)

    rows: dict[str, tuple[Operation, Operation, list[Tensor]]] = {
        "softmax [E, 8]": (
            lambda x: segment_softmax(x, nbr),
            lambda x: softmax(x, target, num_nodes=nodes),
            [random(edges, 8)],
        ),
        "plain sum of [N, 64]": (
            lambda x: gather_scatter(x, None, nbr),
            lambda x: to_targets(x.index_select(0, source)),
            [random(nodes, 64)],
        ),
        "weight [E], [N, 64]": (
            lambda x, w: gather_scatter(x, w, nbr),
            lambda x, w: to_targets(x.index_select(0, source) * w[:, None]),
            [random(nodes, 64), random(edges)],
        ),
        "weight [E, 8], [N, 8, 16]": (
            lambda x, w: gather_scatter(x, w, nbr),
            lambda x, w: to_targets(x.index_select(0, source) * w[:, :, None]),
            [random(nodes, 8, 16), random(edges, 8)],
        ),
        "weight [E, 64], [N, 64]": (
            lambda x, w: gather_scatter(x, w, nbr),
            lambda x, w: to_targets(x.index_select(0, source) * w),
            [random(nodes, 64), random(edges, 64)],
        ),
    }
    for reduce in ("sum", "mean", "max"):
        rows[f"{reduce} [E, 64]"] = (
            lambda x, reduce=reduce: segment_reduce(x, nbr, reduce),
            lambda x, reduce=reduce: to_targets(x, reduce),
            [random(edges, 64)],
        )
    return rows


def with_gradients(operation: Operation, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    """The output and the gradient of each input."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = operation(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def measure(case: str, ours: Operation, theirs: Operation, inputs: list[Tensor], repeats: int, device: str) -> dict:
    """One line of the table."""
    operations = {"ours": ours, "PyG": theirs}
    grad = torch.randn_like(ours(*inputs))
    for mine, yours in zip(*(with_gradients(f, inputs, grad) for f in operations.values()), strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        forward = compare({name: lambda f=f: f(*inputs) for name, f in operations.items()}, repeats, device)
    both = compare(
        {name: lambda f=f: with_gradients(f, inputs, grad) for name, f in operations.items()}, repeats, device
    )
    row: dict[str, str | float] = {"case": case}
    for title, (mine, yours) in (("fwd", forward), ("fwd+bwd", both)):
        row |= {f"{title} ms": mine["ms"], f"PyG {title}": yours["ms"], f"times {title}": yours["ms, times ours"]}
    mine, yours = both
    return row | {"MiB": mine["MiB"], "PyG MiB": yours["MiB"], "times less": yours["MiB, times ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small graphs: shows that it runs, not how fast")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-segment.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    nodes = 2000 if arguments.quick else 20_000 if arguments.device == "cpu" else 1_000_000
    rows = [
        measure(case, *contenders, arguments.repeats, arguments.device)
        for case, contenders in cases(nodes, arguments.device).items()
    ]
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
