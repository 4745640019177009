"""Attention on the sphere beside torch-harmonics: time and memory; and the error under rotations.

    python benchmarks/spherical_attention.py [--quick] [--table rotation]

Grid 64 x 128, 32 channels, 4 heads, two samples, float32, two threads; neighbourhoods of the default cutoff and of
the area of 7 x 7 pixels with torch-harmonics' compiled kernel, then everywhere. Nothing is timed before outputs agree.
The table of rotations needs no peer: relative error, in float64, of attention that is turned before or after.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _harness import compare, print_and_save
from torch import Tensor, nn

from geoattn.geometry.sphere import SpherePoints, geodesic_neighborhood, healpix, lat_lon_grid, scattered
from geoattn.layers import AttentionS2, NeighborhoodAttentionS2, sphere_attention

CHANNELS, HEADS, BATCH = 32, 4, 2


def timings(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Ours and torch-harmonics', with the same parameters."""
    import torch_harmonics

    torch.set_num_threads(2)
    shape = (16, 32) if quick else (64, 128)
    x = torch.randn(BATCH, CHANNELS, *shape)
    spacing = math.pi / (shape[0] - 1)
    common = {"in_channels": CHANNELS, "num_heads": HEADS, "in_shape": shape, "out_shape": shape}
    rows = []
    for case, name, cutoff in (
        ("one spacing", "NeighborhoodAttentionS2", spacing),
        ("7 x 7 disk", "NeighborhoodAttentionS2", 7 / math.sqrt(math.pi) * spacing),
        ("everywhere", "AttentionS2", None),
    ):
        kinds = {"NeighborhoodAttentionS2": NeighborhoodAttentionS2, "AttentionS2": AttentionS2}
        options = common if cutoff is None else common | {"theta_cutoff": cutoff}
        layers = {"ours": kinds[name](**options), "torch-harmonics": getattr(torch_harmonics, name)(**options)}
        layers["ours"].load_state_dict(layers["torch-harmonics"].state_dict())
        rounds = repeats if cutoff is not None else 1
        with torch.no_grad():
            torch.testing.assert_close(*(layer(x) for layer in layers.values()), atol=1e-5, rtol=1e-5)
            forward = compare({name: lambda a=layer: a(x) for name, layer in layers.items()}, rounds)
        both = compare({name: lambda a=layer: with_gradients(a, x) for name, layer in layers.items()}, rounds)
        for title, measured in (("forward", forward), ("forward and backward", both)):
            rows += [{"case": case, "pass": title} | row for row in measured]
    return rows


def with_gradients(layer: nn.Module, x: Tensor) -> None:
    leaf = x.detach().requires_grad_()
    torch.autograd.grad(layer(leaf).square().sum(), [leaf, *layer.parameters()])


def rotations(quick: bool) -> list[dict[str, Any]]:
    """Point sets of growing size; fields of degree 4 that are known everywhere, so nothing is interpolated."""
    sizes: list[tuple[str, Callable[[int], SpherePoints], tuple[int, ...]]] = [
        ("equiangular", lambda n: lat_lon_grid(n, 2 * (n - 1)), (9, 17, 33)),
        ("legendre-gauss", lambda n: lat_lon_grid(n, 2 * n, "legendre-gauss"), (9, 17, 33)),
        ("healpix", healpix, (4, 8, 16)),
        ("random", random_points, (200, 800, 3200)),
    ]
    rows = []
    for name, make, numbers in sizes:
        for number in numbers[:1] if quick else numbers:
            points = make(number)
            row: dict[str, Any] = {"points": name, "N": points.num_points}
            for title, weighted, cutoff, taper in (
                ("global", True, None, False),
                ("global, no areas", False, None, False),
                ("disk 0.5", True, 0.5, False),
                ("disk 0.5, no areas", False, 0.5, False),
                ("disk 0.5, tapered", True, 0.5, True),
            ):
                row[title] = rotation_error(points, weighted, cutoff, taper)
            rows.append(row)
    return rows


def random_points(number: int) -> SpherePoints:
    xyz = torch.randn(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
    latitude = torch.atan2(xyz[:, 2], xyz[:, :2].norm(dim=1)).rad2deg()
    return scattered(latitude, torch.atan2(xyz[:, 1], xyz[:, 0]).rad2deg())


def rotation_error(points: SpherePoints, weighted: bool, cutoff: float | None, taper: bool) -> float:
    """Of attention at 50 arbitrary points: that of the turned field, against the turned attention."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))[0]
    turn = turn * turn.det()
    at = nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64, generator=generator), dim=1)
    maps = torch.randn(3, 35, 8, dtype=torch.float64, generator=generator) / 4
    log_weight = points.weight.log() if weighted else torch.zeros_like(points.weight)

    def attention(targets: Tensor, turned: Tensor) -> Tensor:
        q, k, v = (monomials(x @ turned) @ m for x, m in zip((targets, points.xyz, points.xyz), maps, strict=True))
        nbr, bias = None, None
        if cutoff is not None:
            query = SpherePoints(targets, torch.ones(len(targets)).double(), None, "targets")
            nbr = geodesic_neighborhood(query, points, cutoff)
            if taper:
                angle = torch.linalg.vector_norm(targets[nbr.target] - points.xyz[nbr.source], dim=1).div(2).asin() * 2
                bias = 2 * (angle / cutoff).clamp_max(1).mul(math.pi / 2).cos().log()
        return sphere_attention(q[None, :, None], k[None, :, None], v[None, :, None], log_weight, nbr, bias)

    there, back = attention(at, torch.eye(3).double()), attention(at @ turn.T, turn)
    return float((there - back).norm() / there.norm())


def monomials(xyz: Tensor) -> Tensor:
    """``[..., 35]`` products of at most four coordinates."""
    powers = [(a, b, c) for a in range(5) for b in range(5 - a) for c in range(5 - a - b)]
    return torch.stack([xyz[..., 0] ** a * xyz[..., 1] ** b * xyz[..., 2] ** c for a, b, c in powers], -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="time", choices=["time", "rotation"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small grids: shows that it runs, not how fast")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-spherical-attention.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = rotations(arguments.quick) if arguments.table == "rotation" else timings(arguments.repeats, arguments.quick)
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
