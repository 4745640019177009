"""EGNN beside the authors' code and egnn-pytorch: forward + backward, time and memory, in one run.

    git clone https://github.com/vgsatorras/egnn AUTHORS
    git clone https://github.com/lucidrains/egnn-pytorch LUCIDRAINS     (needs einops)
    python benchmarks/egnn.py --authors AUTHORS --egnn-pytorch LUCIDRAINS [--device cuda]

4,000 nodes with 12 random neighbours, 64 features, 4 layers, float32, two threads. Before timing, our layers take over
the authors' weights and must give their output.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor, nn

from geoattn.kernels import Neighborhood
from geoattn.layers import EGNNLayer

Step = Callable[[], None]


class Stack(nn.Module):
    """EGNN layers that share one neighbourhood."""

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EGNNLayer(channels, hidden_channels=channels) for _ in range(num_layers))

    def forward(self, x: Tensor, pos: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        nbr = Neighborhood.from_edge_index(edge_index, len(x))
        for layer in self.layers:
            x, pos = layer(x, pos, nbr)
        return x, pos


def take_over_weights(ours: Stack, theirs: nn.Module) -> None:
    """Copy the authors' parameters: the columns of the first layer stand in the same order."""
    names = {"edge_in": "edge_mlp.0", "edge_out": "edge_mlp.2", "node_mlp": "node_mlp", "pos_mlp": "coord_mlp"}
    for index, layer in enumerate(ours.layers):
        peer = theirs.get_submodule(f"gcl_{index}")
        for mine, yours in names.items():
            layer.get_submodule(mine).load_state_dict(peer.get_submodule(yours).state_dict())


def backward_of(run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, pos: Tensor) -> Step:
    """Forward and backward to the parameters, the features and the positions."""

    def step() -> None:
        leaf_x, leaf_pos = x.clone().requires_grad_(), pos.clone().requires_grad_()
        out_x, out_pos = run(leaf_x, leaf_pos)
        (out_x.square().sum() + out_pos.square().sum()).backward()

    return step


def candidates(arguments: argparse.Namespace) -> dict[str, Step]:
    """The same graph through our layers and through the peers that were given."""
    torch.manual_seed(0)
    nodes, degree, channels, num_layers = arguments.nodes, arguments.degree, arguments.channels, arguments.layers
    target = torch.arange(nodes).repeat_interleave(degree)
    source = (target + torch.randint(1, nodes, target.shape)) % nodes  # no self loops: the authors' code counts them
    edge_index = torch.stack([source, target]).to(arguments.device)
    x, pos = torch.randn(nodes, channels, device=arguments.device), torch.randn(nodes, 3, device=arguments.device)
    ours = Stack(channels, num_layers).to(arguments.device)
    steps = {"geoattn": backward_of(lambda a, b: ours(a, b, edge_index), x, pos)}
    if arguments.authors:
        sys.path.insert(0, str(arguments.authors / "models" / "egnn_clean"))
        from egnn_clean import EGNN

        authors = EGNN(channels, channels, channels, n_layers=num_layers, device=arguments.device)
        authors.embedding_in, authors.embedding_out = nn.Identity(), nn.Identity()
        take_over_weights(ours, authors)
        rows = [edge_index[1], edge_index[0]]  # their row 0 receives
        for mine, yours in zip(ours(x, pos, edge_index), authors(x, pos, rows, None), strict=True):
            torch.testing.assert_close(mine, yours, atol=1e-3, rtol=1e-4)
        steps["authors"] = backward_of(lambda a, b: authors(a, b, rows, None), x, pos)
    if arguments.egnn_pytorch:
        sys.path.insert(0, str(arguments.egnn_pytorch))
        from egnn_pytorch.egnn_pytorch_geometric import EGNN_Sparse

        sparse = nn.ModuleList(EGNN_Sparse(channels, m_dim=channels) for _ in range(num_layers)).to(arguments.device)

        def run_sparse(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            packed = torch.cat([b, a], dim=1)
            for layer in sparse:
                packed = layer(packed, edge_index)
            return packed[:, 3:], packed[:, :3]

        steps["egnn-pytorch sparse"] = backward_of(run_sparse, x, pos)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, help="a clone of vgsatorras/egnn")
    parser.add_argument("--egnn-pytorch", type=Path, help="a clone of lucidrains/egnn-pytorch")
    for name, value in (("nodes", 4000), ("degree", 12), ("channels", 64), ("layers", 4), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-egnn.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    print_and_save(compare(candidates(arguments), arguments.repeats, arguments.device), arguments.out)


if __name__ == "__main__":
    main()
