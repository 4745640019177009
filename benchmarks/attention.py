"""neighbor_attention beside PyG's formulation (gather, softmax, scatter): time and memory, forward and backward.

    python benchmarks/attention.py [--quick] [--device cuda]

On the CPU: 20,000 targets, 8 heads of 16, two threads; random neighbours of mean degree 16, 8 and 64, a power law,
float64. On CUDA: a million targets with 16 neighbours, float32 and bfloat16, and what part of the measured copy
bandwidth the forward pass reaches, counting the bytes that must move: each edge's k and v, each target's q and output.
Nothing is timed before outputs and gradients agree.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor
from torch_geometric.utils import scatter, softmax

from geoattn.kernels import Neighborhood, neighbor_attention

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
HEADS, DIM = 8, 16
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10, torch.bfloat16: 3e-2}


def graph(kind: str, nodes: int, degree: int) -> Tensor:
    """``[2, E]`` edges: ``degree`` random sources per target, or in- and out-degrees from a power law, sorted."""
    if kind == "random":
        target = torch.arange(nodes).repeat_interleave(degree)
        return torch.stack([torch.randint(0, nodes, target.shape), target])
    weight = torch.arange(1, nodes + 1).pow(-0.8).float()  # the largest hub has a hundredth of all edges
    ends = [torch.randperm(nodes)[torch.multinomial(weight, nodes * degree, replacement=True)] for _ in range(2)]
    return torch.stack(ends)[:, ends[1].argsort()]


def pyg_attention(edge_index: Tensor, nodes: int) -> Attention:
    """As PyG's layers do it."""
    source, target = edge_index

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = (q.index_select(0, target) * k.index_select(0, source)).sum(-1) * DIM**-0.5
        p = softmax(logits, target, num_nodes=nodes)
        return scatter(v.index_select(0, source) * p[:, :, None], target, dim=0, dim_size=nodes)

    return run


def our_attention(edge_index: Tensor, nodes: int) -> Attention:
    nbr = Neighborhood.from_edge_index(edge_index, nodes)
    return lambda q, k, v: neighbor_attention(q, k, v, nbr)


def with_gradients(attention: Attention, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    """The output and the gradients of q, k and v."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attention(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def check(found: list[Tensor], expected: list[Tensor]) -> None:
    """Refuse to time what is wrong."""
    for name, mine, theirs in zip(("output", "dq", "dk", "dv"), found, expected, strict=True):
        error = float((mine.double() - theirs.double()).norm() / theirs.double().norm())
        if not error <= TOLERANCE[mine.dtype]:
            raise SystemExit(f"{name} differs by {error:.1e} of its norm: not timed")


def measure(
    case: str, edge_index: Tensor, nodes: int, dtype: torch.dtype, repeats: int, device: str
) -> dict[str, str | float]:
    """One line of the table."""
    edge_index = edge_index.to(device)
    *inputs, grad = (torch.randn(nodes, HEADS, DIM, dtype=dtype, device=device) for _ in range(4))
    attentions = {"ours": our_attention(edge_index, nodes), "PyG": pyg_attention(edge_index, nodes)}
    check(*(with_gradients(attention, inputs, grad) for attention in attentions.values()))
    with torch.no_grad():
        forward = compare({name: lambda a=a: a(*inputs) for name, a in attentions.items()}, repeats, device)
    both = compare(
        {name: lambda a=a: with_gradients(a, inputs, grad) for name, a in attentions.items()}, repeats, device
    )
    row: dict[str, str | float] = {"case": case}
    for title, (ours, theirs) in (("fwd", forward), ("fwd+bwd", both)):
        row |= {f"{title} ms": ours["ms"], "PyG " + title: theirs["ms"], f"times {title}": theirs["ms"] / ours["ms"]}
    ours, theirs = both
    return row | {"MiB": ours["MiB"], "PyG MiB": theirs["MiB"], "times less": theirs["MiB"] / ours["MiB"]}


def copy_bandwidth(repeats: int) -> float:
    """Bytes per second of a large copy on the GPU, reads and writes counted."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    milliseconds = compare({"copy": lambda: target.copy_(source)}, repeats, "cuda")[0]["ms"]
    return 2 * source.numel() * source.element_size() / milliseconds * 1e3


def on_cpu(repeats: int, quick: bool) -> list[dict[str, str | float]]:
    torch.set_num_threads(2)
    nodes = 2000 if quick else 20_000
    cases = [
        ("degree 16", "random", 16, torch.float32),
        ("degree 8", "random", 8, torch.float32),
        ("degree 64", "random", 64, torch.float32),
        ("power law, mean 16", "power", 16, torch.float32),
        ("degree 16, float64", "random", 16, torch.float64),
    ]
    return [measure(name, graph(kind, nodes, d), nodes, dtype, repeats, "cpu") for name, kind, d, dtype in cases]


def on_cuda(repeats: int, quick: bool) -> list[dict[str, str | float]]:
    nodes, degree = 10_000 if quick else 1_000_000, 16
    edge_index = graph("random", nodes, degree)
    bandwidth = copy_bandwidth(repeats)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        row = measure(f"{nodes:,} x {degree}, {dtype}", edge_index, nodes, dtype, repeats, "cuda")
        moved = 2 * (nodes * degree + nodes) * HEADS * DIM * dtype.itemsize
        rows.append(row | {"of copy bandwidth": moved / (float(row["fwd ms"]) / 1e3) / bandwidth})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small graphs: shows that it runs, not how fast")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-attention.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = (on_cuda if arguments.device == "cuda" else on_cpu)(arguments.repeats, arguments.quick)
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
