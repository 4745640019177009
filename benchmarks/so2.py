"""The SO(2) convolution beside e3nn's tensor product, its cost by degree, and a training step of EquiformerV2.

    python benchmarks/so2.py peer                one convolution, forward + backward, beside e3nn
    python benchmarks/so2.py degrees             ours at degrees 2 to 6
    python benchmarks/so2.py step [--layers 2]   energies and forces of many atoms, by number of edges
    python benchmarks/so2.py molecules           energies and forces of a batch of small molecules

peer: from unit vectors and features of each edge to the convolved features; both sides make their own harmonics or
frames, have weights that depend on the edge, and are differentiated by features, unit vectors and parameters. e3nn's
is the product of NequIP and MACE: depthwise ("uvu") with harmonics up to the same degree, then a linear map. Before
timing, ours with the weights of one path must give e3nn's result.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _harness import compare, print_and_save
from torch import Tensor, nn

from geoattn.geometry.edge_frame import EdgeFrame
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.irreps import natural_irreps, to_degrees, to_packed
from geoattn.layers import SO2Conv
from geoattn.layers.so2_clebsch_gordan import so2_weights_from_paths
from geoattn.models.equiformer_v2 import EnergyHead, EquiformerV2

RADIAL = 16  # width of the edges' invariants


class OurConv(nn.Module):
    """Rotate into the edges' frames, convolve, rotate back."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.conv = SO2Conv(lmax, lmax, channels, channels, radial_channels=RADIAL)

    def forward(self, x: Tensor, unit: Tensor, a: Tensor) -> Tensor:
        frame = EdgeFrame.build(unit, self.lmax, self.lmax)
        return frame.rotate_back(self.conv(frame.rotate(x), a))


class PeerConv(nn.Module):
    """Depthwise tensor product with the harmonics, a weight per edge, path and channel, then a linear map."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        from e3nn import o3

        self.lmax = lmax
        features, harmonics = o3.Irreps(natural_irreps(lmax, channels)), o3.Irreps.spherical_harmonics(lmax)
        middle, paths = [], []
        for i, (_, one) in enumerate(features):
            for j, (_, two) in enumerate(harmonics):
                for out in one * two:
                    if out.l <= lmax:
                        paths.append((i, j, len(middle), "uvu", True))
                        middle.append((channels, out))
        self.product = o3.TensorProduct(features, harmonics, middle, paths, shared_weights=False)
        self.radial = nn.Sequential(nn.Linear(RADIAL, RADIAL), nn.SiLU(), nn.Linear(RADIAL, self.product.weight_numel))
        # all parities in one block per degree: the SO(2) convolution mixes them too
        self.linear = o3.Linear(
            "+".join(f"{mul}x{ir.l}e" for mul, ir in middle), "+".join(f"{channels}x{k}e" for k in range(lmax + 1))
        )

    def forward(self, x: Tensor, unit: Tensor, a: Tensor) -> Tensor:
        from e3nn import o3

        harmonics = o3.spherical_harmonics(list(range(self.lmax + 1)), unit, False, "component")
        return self.linear(self.product(x, harmonics, self.radial(a)))


def check_one_path(lmax: int) -> None:
    """e3nn's product of the degrees (1, J, lmax), a path each, is ours with the converted weights."""
    from e3nn import o3

    unit = nn.functional.normalize(torch.randn(10, 3, dtype=torch.float64), dim=1)
    x = torch.randn(10, 3, 1, dtype=torch.float64)
    for j in (lmax - 1, lmax):
        harmonics = spherical_harmonics(unit, lmax)[:, j * j : (j + 1) ** 2]
        # o3.wigner_3j and not the product, whose sign and norm depend on its own options
        expected = torch.einsum("mMn,eM,emc->enc", o3.wigner_3j(1, j, lmax, dtype=torch.float64), harmonics, x)
        weights = so2_weights_from_paths({(1, j, lmax): torch.ones(1, 1, dtype=torch.float64)}, lmax, lmax, 1, 1)
        conv = SO2Conv(lmax, lmax, 1, 1).double()
        for mine, converted in zip(conv.weights, weights, strict=True):
            mine.data = converted
        frame = EdgeFrame.build(unit, lmax, lmax)
        padded = nn.functional.pad(x, (0, 0, 1, (lmax + 1) ** 2 - 4))
        ours = frame.rotate_back(conv(frame.rotate(padded)))
        torch.testing.assert_close(ours[:, lmax**2 :], expected)


def convolution_step(conv: nn.Module, lmax: int, channels: int, edges: int, device: str, packed: bool) -> Any:
    """Forward and backward to features, directions, invariants and parameters."""
    torch.manual_seed(0)
    unit = nn.functional.normalize(torch.randn(edges, 3), dim=1).to(device)
    x, a = torch.randn(edges, (lmax + 1) ** 2, channels), torch.randn(edges, RADIAL, device=device)
    if packed:
        x = to_packed(x)
        assert torch.equal(to_packed(to_degrees(x, natural_irreps(lmax, channels))), x)
    x, conv = x.to(device), conv.to(device)

    def step() -> None:
        leaves = [tensor.clone().requires_grad_() for tensor in (x, unit, a)]
        conv(*leaves).square().sum().backward()

    return step


def atoms(num: int, degree: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Species, positions and ``degree`` near neighbours of each atom, on a jittered grid."""
    torch.manual_seed(0)
    side = math.ceil(num ** (1 / 3))
    grid = torch.cartesian_prod(*[torch.arange(side)] * 3)[:num].float()
    pos = 1.5 * grid + 0.2 * torch.randn(num, 3)
    near = torch.cdist(pos, pos).fill_diagonal_(torch.inf).topk(degree, largest=False).indices
    edges = torch.stack([near.flatten(), torch.arange(num).repeat_interleave(degree)])
    return torch.randint(4, (num,)).to(device), pos.to(device), edges.to(device)


def molecules(num: int, size: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Species, positions and all pairs of each of ``num`` molecules."""
    torch.manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
    pairs = pairs[:, pairs[0] != pairs[1]]
    edges = torch.cat([pairs + k * size for k in range(num)], dim=1)
    return torch.randint(4, (num * size,)).to(device), 1.5 * torch.randn(num * size, 3).to(device), edges.to(device)


def training_step(system: tuple[Tensor, Tensor, Tensor], forces: bool, device: str, **options: Any) -> Any:
    """Energy, forces, loss on them, and the gradient of the parameters."""
    torch.manual_seed(0)
    model = EquiformerV2(4, **options).to(device)
    head = EnergyHead(options["channels"]).to(device)
    parameters = [*model.parameters(), *head.parameters()]
    species, pos, edges = system

    def step() -> None:
        leaf = pos.clone().requires_grad_(forces)
        energy = head(model(species, leaf, edges)).sum()
        loss = energy.square()
        if forces:
            (gradient,) = torch.autograd.grad(energy, leaf, create_graph=True)
            loss = loss + gradient.square().mean()
        loss.backward(inputs=parameters)

    return step


def peer(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One convolution at degree ``--lmax``."""
    check_one_path(arguments.lmax)
    size = (arguments.lmax, arguments.channels, arguments.edges, arguments.device)
    steps = {
        "geoattn": convolution_step(OurConv(*size[:2]), *size, packed=False),
        "e3nn uvu": convolution_step(PeerConv(*size[:2]), *size, packed=True),
    }
    return compare(steps, arguments.repeats, arguments.device)


def degrees(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The cost of our convolution by degree, and the power of the degree that it has grown with since degree 2."""
    size = (arguments.channels, arguments.edges, arguments.device)
    steps = {
        f"degree {lmax}": convolution_step(OurConv(lmax, size[0]), lmax, *size, packed=False) for lmax in range(2, 7)
    }
    rows = compare(steps, arguments.repeats, arguments.device)
    for lmax, row in enumerate(rows, start=2):
        for column in ("ms", "MiB"):
            growth = math.log(row[column] / rows[0][column]) / math.log(lmax / 2) if lmax > 2 else math.nan
            row[f"{column}, power of degree"] = growth
    return rows


def step(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A training step of ``--atoms`` atoms by their number of neighbours; memory beside the number of edges."""
    options = {"channels": arguments.channels, "num_layers": arguments.layers, "lmax": 3, "cutoff": 6.0}
    options["max_edges"] = arguments.max_edges
    rows = []
    for degree in (10, 20, 30):
        system = atoms(arguments.atoms, degree, arguments.device)
        run = training_step(system, not arguments.energies, arguments.device, **options)
        (row,) = compare({f"{degree} neighbours": run}, arguments.repeats, arguments.device)
        edges = system[2].shape[1]
        rows.append({"by": row["by"], "edges": edges, "ms": row["ms"], "MiB": row["MiB"]})
        rows[-1]["KiB per edge"] = 1024 * row["MiB"] / edges
    return rows


def small(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Ten molecules of nine atoms, degree 2: what training on a force data set does all day."""
    system = molecules(10, 9, arguments.device)
    options = {"num_layers": arguments.layers, "lmax": 2, "cutoff": 8.0}
    steps = {
        f"{channels} channels": training_step(system, True, arguments.device, channels=channels, **options)
        for channels in (32, 64)
    }
    return compare(steps, arguments.repeats, arguments.device)


def main() -> None:
    runs: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
        "peer": peer,
        "degrees": degrees,
        "step": step,
        "molecules": small,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(runs))
    for name, value in (("lmax", 4), ("channels", 32), ("edges", 8000), ("atoms", 2000), ("layers", 3), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--max-edges", type=int, help="step: edges worked on at a time; all if left out")
    parser.add_argument("--energies", action="store_true", help="step: energies alone, no forces")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out = arguments.out or Path(f"runs/benchmark-so2-{arguments.what}.json")
    print_and_save(runs[arguments.what](arguments), out)


if __name__ == "__main__":
    main()
