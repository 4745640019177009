"""EGNN for molecules in three dimensions: energies and other properties from element numbers and positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geoattn.domains.molecules.pooling import Pooling, molecule_of_atom, pool
from geoattn.errors import InputError
from geoattn.kernels import Neighborhood
from geoattn.layers.egnn import EGNNLayer, edge_geometry


class EGNNModel(nn.Module):
    """Invariant EGNN over a radius graph, as the paper uses it for QM9: positions enter and are not updated.

    Differences from the paper: distances enter through Gaussians instead of their square, and messages carry a smooth
    envelope that vanishes at the cutoff, so that the prediction is continuous while atoms move.

    Args:
        out_channels: T, number of targets.
        elements: atomic numbers the model knows.
        hidden_channels: width of node features and messages.
        num_layers: number of EGNN layers.
        cutoff: Angstrom; the batch's ``edge_index`` must hold all pairs within it.
        num_rbf: Gaussians of the distance.
        gate: gate the messages.
        dropout: on the molecule's readout.
        pooling: "sum" for extensive targets (energies), "mean" for intensive ones.

    Shapes: forward takes a ``Data``/``Batch`` with ``z [N]``, ``pos [N, 3]``, ``edge_index [2, E]``, optional
    ``edge_shift [E, 3]``, and returns ``[B, T]`` in normalised units (logits for classification).

    Symmetry: invariant under rotations, reflections, translations and permutations of atoms.
    """

    graph = "3d"
    position_of: Tensor

    def __init__(
        self,
        out_channels: int,
        elements: list[int],
        hidden_channels: int = 64,
        num_layers: int = 4,
        cutoff: float = 6.0,
        num_rbf: int = 32,
        gate: bool = True,
        dropout: float = 0.0,
        pooling: Pooling = "sum",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            out_channels=out_channels,
            elements=list(elements),
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            cutoff=cutoff,
            num_rbf=num_rbf,
            gate=gate,
            dropout=dropout,
            pooling=pooling,
        )
        self.cutoff, self.num_rbf, self.pooling = cutoff, num_rbf, pooling
        position_of = torch.full((120,), -1, dtype=torch.long)
        position_of[torch.tensor(self.config["elements"])] = torch.arange(len(elements))
        self.register_buffer("position_of", position_of, persistent=False)
        self.embedding = nn.Embedding(len(elements), hidden_channels)
        self.layers = nn.ModuleList(
            EGNNLayer(
                hidden_channels, hidden_channels=hidden_channels, radial_channels=num_rbf, update_pos=False, gate=gate
            )
            for _ in range(num_layers)
        )
        self.readout = nn.Sequential(
            nn.Linear(hidden_channels, hidden_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_channels, out_channels),
        )

    def forward(self, batch: Data) -> Tensor:
        """``[B, T]`` predictions in normalised units.

        Raises:
            InputError: if the batch holds an element that the model was not built for.
        """
        nbr = Neighborhood.from_edge_index(batch.edge_index, batch.z.shape[0]).in_csr_order()
        shift = getattr(batch, "edge_shift", None)
        geometry = edge_geometry(batch.pos, nbr, shift, self.num_rbf, self.cutoff)
        x = self.embedding(self._element_index(batch.z))
        for layer in self.layers:
            x, _ = layer(x, batch.pos, nbr, geometry=geometry)
        return pool(self.readout(x), *molecule_of_atom(batch), self.pooling)

    def _element_index(self, z: Tensor) -> Tensor:
        index = self.position_of[z]
        if not torch.compiler.is_compiling() and bool((index < 0).any()):
            unknown = sorted(set(z[index < 0].tolist()))
            raise InputError(
                f"z: got atomic numbers {unknown}, the model knows {self.config['elements']}. "
                "Leave these molecules out, or train a model on data that has these elements."
            )
        return index
