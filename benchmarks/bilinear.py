"""sparse_bilinear and segment_outer beside e3nn and plain torch: time and memory, forward and backward to every input.

    python benchmarks/bilinear.py [--quick] [--device cuda]

The Clebsch-Gordan product of 8,000 edges with 32 channels, degrees up to 2, 3 and 4, every path weighted per edge and
channel, beside e3nn's TensorProduct ("uvu") and batched matrix products in torch; the same from 500 nodes with 16
neighbours summed over the edges of each, beside torch's with gather and index_add; and segment_outer beside the outer
products and, as all degrees are equal, torch.bmm. float32. Nothing is timed before outputs and gradients agree.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor

from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.clebsch_gordan_table import clebsch_gordan_paths, clebsch_gordan_table
from geoattn.kernels import Neighborhood, segment_outer, sparse_bilinear

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # e3nn scripts its functions when it is imported
    from e3nn import o3

Operation = Callable[..., Tensor]
DEGREE, CHANNELS = 16, 32


def by_matrices(lmax: int, device: str) -> Operation:
    """Per path the matrix of y, a batched product with x, and the weight."""
    paths = clebsch_gordan_paths(lmax, lmax, lmax)
    blocks = [clebsch_gordan(*path).float().to(device) for path in paths]

    def product(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        parts: list[list[Tensor]] = [[] for _ in range(lmax + 1)]
        for path, ((l_x, l_y, l_out), block) in enumerate(zip(paths, blocks, strict=True)):
            matrix = torch.einsum("ej,ijk->eki", y[:, l_y**2 : (l_y + 1) ** 2], block)
            parts[l_out].append(weight[:, path, None] * torch.bmm(matrix, x[:, l_x**2 : (l_x + 1) ** 2]))
        return torch.cat([sum(part) for part in parts], dim=1)

    return product


def by_e3nn(lmax: int, device: str) -> Operation:
    """e3nn's product, with its packing of features on the way in and out."""
    irreps = [o3.Irreps([(m, (degree, 1)) for degree in range(lmax + 1)]) for m in (CHANNELS, 1, CHANNELS)]
    instructions = [(*path, "uvu", True) for path in clebsch_gordan_paths(lmax, lmax, lmax)]
    plain = {"irrep_normalization": "none", "path_normalization": "none"}
    given = {"shared_weights": False, "internal_weights": False}
    product = o3.TensorProduct(*irreps, instructions, **plain, **given).to(device)

    def packed(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        x = torch.cat([x[:, d * d : (d + 1) ** 2].transpose(1, 2).flatten(1) for d in range(lmax + 1)], dim=1)
        z, sizes = product(x, y, weight.flatten(1)), [CHANNELS * (2 * d + 1) for d in range(lmax + 1)]
        return torch.cat([part.unflatten(1, (CHANNELS, -1)).transpose(1, 2) for part in z.split(sizes, 1)], dim=1)

    return packed


def cases(nodes: int, device: str) -> dict[str, tuple[dict[str, Operation], list[Tensor]]]:
    """Name -> contenders, ours first, and inputs."""
    target = torch.arange(nodes, device=device).repeat_interleave(DEGREE)
    source = torch.randint(0, nodes, target.shape, device=device)
    nbr, edges = Neighborhood.from_edge_index(torch.stack([source, target]), nodes), len(target)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    rows: dict[str, tuple[dict[str, Operation], list[Tensor]]] = {}
    for lmax in (2, 3, 4):
        table, torch_product = clebsch_gordan_table(lmax, lmax, lmax), by_matrices(lmax, device)
        size, paths = (lmax + 1) ** 2, table.sizes[3]
        shared = [random(edges, size), random(edges, paths, CHANNELS)]

        def summed(x: Tensor, y: Tensor, w: Tensor, product: Operation = torch_product) -> Tensor:
            z = product(x.index_select(0, source), y, w)
            return z.new_zeros(nodes, *z.shape[1:]).index_add(0, target, z)

        ours = {"ours": lambda x, y, w, table=table: sparse_bilinear(x, y, table, w)}
        peers = {"e3nn": by_e3nn(lmax, device), "torch": torch_product}
        rows[f"CG, l <= {lmax}"] = ours | peers, [random(edges, size, CHANNELS), *shared]
        ours = {"ours": lambda x, y, w, table=table: sparse_bilinear(x, y, table, w, nbr)}
        rows[f"CG, l <= {lmax}, summed"] = ours | {"torch": summed}, [random(nodes, size, CHANNELS), *shared]
    for left, right in ((16, 64), (32, 288)):

        def outer(u: Tensor, t: Tensor) -> Tensor:
            products = u[:, :, None] * t[:, None, :]
            return products.new_zeros(nodes, *products.shape[1:]).index_add(0, target, products)

        contenders = {
            "ours": lambda u, t: segment_outer(u, t, nbr),
            "torch": outer,
            "bmm": lambda u, t: torch.bmm(u.unflatten(0, (nodes, -1)).mT, t.unflatten(0, (nodes, -1))),
        }
        rows[f"outer {left} x {right}"] = contenders, [random(edges, left), random(edges, right)]
    return rows


def with_gradients(operation: Operation, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    """The output and the gradient of each input."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = operation(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few edges: shows that it runs, not how fast")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-bilinear.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    table = []
    for case, (contenders, inputs) in cases(20 if arguments.quick else 500, arguments.device).items():
        grad = torch.randn_like(contenders["ours"](*inputs))
        mine, *others = (with_gradients(operation, inputs, grad) for operation in contenders.values())
        for other in others:
            for a, b in zip(mine, other, strict=True):
                torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
        steps = {name: lambda f=f, x=inputs, g=grad: with_gradients(f, x, g) for name, f in contenders.items()}
        table += [{"case": case} | row for row in compare(steps, arguments.repeats, arguments.device)]
    print_and_save(table, arguments.out)


if __name__ == "__main__":
    main()
