"""Graph attention for molecules as drawn: properties from atoms and bonds, without coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geoattn.domains.molecules.pooling import Pooling, molecule_of_atom, pool
from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood
from geoattn.layers.graph_attention import GraphAttentionLayer


class GraphAttentionModel(nn.Module):
    """Transformer blocks over the bonds of a molecule, pooled, then an MLP that may also see descriptors.

    Args:
        in_channels: width of the atom features ``x``.
        edge_channels: width of the bond features ``edge_attr``.
        out_channels: T, number of targets.
        hidden_channels: width of the atoms' representation.
        num_layers: number of attention blocks; each looks one bond further.
        num_heads: attention heads.
        dropout: in the blocks and the readout.
        num_descriptors: K, width of ``descriptors``; 0 if the model uses none.
        pooling: "sum" for targets that grow with the molecule, "mean" for others.

    Shapes: forward takes a ``Data``/``Batch`` with ``x [N, in_channels]``, ``edge_index [2, E]``, ``edge_attr
    [E, edge_channels]`` and, where the model uses them, ``descriptors [B, K]``; it returns ``[B, T]`` in normalised
    units (logits for classification).

    Symmetry: invariant under permutations of atoms; no coordinates enter.
    """

    graph = "2d"

    def __init__(
        self,
        in_channels: int,
        edge_channels: int,
        out_channels: int,
        hidden_channels: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.0,
        num_descriptors: int = 0,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            in_channels=in_channels,
            edge_channels=edge_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout=dropout,
            num_descriptors=num_descriptors,
            pooling=pooling,
        )
        self.num_descriptors, self.pooling = num_descriptors, pooling
        self.embedding = nn.Linear(in_channels, hidden_channels)
        self.layers = nn.ModuleList(
            GraphAttentionLayer(hidden_channels, num_heads, edge_channels=edge_channels, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_channels)
        self.readout = nn.Sequential(
            nn.Linear(hidden_channels + num_descriptors, 2 * hidden_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden_channels, out_channels),
        )

    def forward(self, batch: Data) -> Tensor:
        """``[B, T]`` predictions in normalised units.

        Raises:
            ShapeError: if the batch lacks the descriptors that the model was built for.
        """
        nbr = Neighborhood.from_edge_index(batch.edge_index, batch.x.shape[0])
        x = self.embedding(batch.x)
        for layer in self.layers:
            x = layer(x, nbr, batch.edge_attr)
        molecule = pool(self.norm(x), *molecule_of_atom(batch), self.pooling)
        if self.num_descriptors:
            descriptors = getattr(batch, "descriptors", None)
            if descriptors is None or descriptors.shape[-1] != self.num_descriptors:
                got = "None" if descriptors is None else f"shape {tuple(descriptors.shape)}"
                raise ShapeError("batch.descriptors", got, f"[B, {self.num_descriptors}]")
            molecule = torch.cat([molecule, descriptors.to(molecule.dtype)], dim=-1)
        return self.readout(molecule)
