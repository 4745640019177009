"""SE(3)-Transformer, in three forms, beside se3-transformer-pytorch: forward + backward, time and memory, in one run.

    pip install --no-deps --target PEER se3-transformer-pytorch einops filelock
    python benchmarks/se3_transformer.py [--peer PEER] [--device cuda]

256 points with their 12 nearest, 32 channels, degrees 0-2, two attention layers with 4 heads of 8 between a layer from
scalars and one back to scalars, float32, two threads. The peer has one softmax per degree, a feed-forward after each
attention and 128 radial units, so the two are not the same function; the radial units of ours are an option here.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from _harness import compare, print_and_save
from torch import Tensor

from geoattn.geometry.irreps import natural_irreps
from geoattn.kernels import Neighborhood, knn
from geoattn.models import SE3Transformer

Step = Callable[[], None]


def backward_of(run: Callable[[Tensor], Tensor], x: Tensor) -> Step:
    """Forward and backward to the parameters and the features."""

    def step() -> None:
        leaf = x.clone().requires_grad_()
        run(leaf).square().sum().backward()

    return step


def candidates(arguments: argparse.Namespace) -> dict[str, Step]:
    """The same points through our model and through the peer, if it was given."""
    torch.manual_seed(0)
    device, channels, degree = arguments.device, arguments.channels, arguments.degree
    pos = torch.randn(arguments.nodes, 3, device=device)
    x = torch.randn(arguments.nodes, channels, device=device)
    hidden = natural_irreps(arguments.lmax, channels)

    def ours(kernel: Literal["full", "depthwise", "so2"]) -> Step:
        model = SE3Transformer(
            f"{channels}x0e",
            hidden,
            f"{channels}x0e",
            num_layers=3,  # the first comes from scalars, where the peer has a convolution
            num_heads=arguments.heads,
            channels_div=1,
            kernel=kernel,
            radial_channels=arguments.radial_channels,
        ).to(device)

        def run(x: Tensor) -> Tensor:
            source, _ = knn(pos, k=degree)
            target = torch.arange(len(pos), device=device).repeat_interleave(degree)
            return model(x, pos, Neighborhood.from_edge_index(torch.stack([source.flatten(), target]), len(pos)))

        return backward_of(run, x)

    steps = {"geoattn": ours("full"), "geoattn, depthwise": ours("depthwise"), "geoattn, so2": ours("so2")}
    if arguments.peer:
        sys.path.insert(0, str(arguments.peer))
        from se3_transformer_pytorch import SE3Transformer as Peer

        peer = Peer(
            dim=channels,
            heads=arguments.heads,
            dim_head=channels // arguments.heads,
            depth=2,
            num_degrees=arguments.lmax + 1,
            num_neighbors=degree,
        ).to(device)
        steps["se3-transformer-pytorch"] = backward_of(lambda x: peer(x[None], pos[None], return_type=0), x)
    return steps


def with_processor_time(step: Step, seconds: list[float]) -> Step:
    """``step``, noting the processor time it takes, which other load on the machine changes less than the wall's."""

    def timed() -> None:
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="where se3-transformer-pytorch is installed")
    for name, value in (("nodes", 256), ("degree", 12), ("channels", 32), ("lmax", 2), ("heads", 4), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--radial-channels", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-se3-transformer.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    processor: dict[str, list[float]] = {}
    steps = {
        name: with_processor_time(step, processor.setdefault(name, [])) for name, step in candidates(arguments).items()
    }
    rows = compare(steps, arguments.repeats, arguments.device)
    for row in rows:
        row["CPU s"] = min(processor[row["by"]])
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
