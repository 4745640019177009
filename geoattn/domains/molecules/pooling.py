"""From atoms to molecules."""

from typing import Literal

from torch import Tensor
from torch_geometric.data import Data

Pooling = Literal["sum", "mean"]


def pool(x: Tensor, batch: Tensor, num_graphs: int, how: Pooling) -> Tensor:
    """Sum or mean of the atoms' ``x [N, C]`` of each molecule, ``[B, C]``; a molecule without atoms gets 0.

    Sums suit extensive targets (energies), means suit intensive ones.
    """
    total = x.new_zeros(num_graphs, x.shape[1]).index_add_(0, batch, x)
    if how == "sum":
        return total
    count = x.new_zeros(num_graphs).index_add_(0, batch, x.new_ones(len(batch)))
    return total / count.clamp(min=1)[:, None]


def molecule_of_atom(batch: Data) -> tuple[Tensor, int]:
    """Molecule of each atom ``[N]`` and the number of molecules B; a single ``Data`` is one molecule."""
    if getattr(batch, "batch", None) is None:
        return batch.edge_index.new_zeros(batch.num_nodes), 1
    return batch.batch, batch.num_graphs
