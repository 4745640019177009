"""EGNN as a stack: features, positions and velocities through several layers."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.edges import edge_vectors
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.layers.egnn import EdgeGeometry, EGNNLayer, edge_geometry


class EGNN(nn.Module):
    r"""E(n)-equivariant network of Satorras, Hoogeboom and Welling: an embedding and ``num_layers`` `EGNNLayer`.

    Positions move in every layer, and distances are taken anew. With velocities a layer adds
    :math:`\phi_v(h_i)\, v_i` to the step of node i, where :math:`v` is

    - ``velocity="initial"``: the velocity that came in, in every layer: what the authors' code for particles does;
    - ``velocity="updated"``: what the layer before made of it: the paper's equation 7.

    Paper: "E(n) Equivariant Graph Neural Networks", ICML 2021, arXiv:2102.09844.

    Args:
        in_channels: F, width of the node features.
        out_channels: width of the returned features; the hidden features themselves if None.
        hidden_channels: C, width of features and messages.
        num_layers: layers; each looks one edge further.
        edge_channels: A, width of ``edge_attr``.
        velocity: None for a network without velocities.
        update_pos: whether positions move; False makes the network E(n)-invariant.
        gate, pos_aggr, normalize, tanh: see `EGNNLayer`.

    Shapes:
        x ``[N, F]``, pos ``[N, n]``, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in the caller's
        order, vel ``[N, n]``. Returns ``(x' [N, out_channels], pos' [N, n])`` and, with velocities, ``vel' [N, n]``,
        the step of the last layer.

    Symmetry: x' is invariant, pos' and vel' are equivariant under rotations, reflections and translations of
    n-dimensional space and under node permutations, exactly.

    Cost: that of the layers, O(num_layers (N C^2 + E C^2)).

    Edge cases: those of `EGNNLayer`; an isolated node moves by its velocity alone.

    Example:
        >>> network = EGNN(1, hidden_channels=16, num_layers=2, velocity="initial")
        >>> x, pos, vel = torch.ones(4, 1), torch.randn(4, 3), torch.randn(4, 3)
        >>> h, moved, _ = network(x, pos, torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), vel=vel)
        >>> h.shape, moved.shape
        (torch.Size([4, 16]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        hidden_channels: int = 64,
        num_layers: int = 4,
        edge_channels: int = 0,
        velocity: Literal["initial", "updated"] | None = None,
        update_pos: bool = True,
        gate: bool = False,
        pos_aggr: Literal["mean", "sum"] = "mean",
        normalize: bool = False,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ShapeError("num_layers", f"{num_layers}", "at least 1")
        if velocity not in (None, "initial", "updated"):
            raise ShapeError("velocity", repr(velocity), "'initial', 'updated' or None")
        self.in_channels, self.hidden_channels, self.edge_channels = in_channels, hidden_channels, edge_channels
        self.velocity, self.update_pos = velocity, update_pos
        options: dict[str, Any] = dict(
            hidden_channels=hidden_channels,
            edge_channels=edge_channels,
            update_pos=update_pos,
            use_velocity=velocity is not None,
            gate=gate,
            pos_aggr=pos_aggr,
            normalize=normalize,
            tanh=tanh,
        )
        self.embedding = nn.Linear(in_channels, hidden_channels)
        self.layers = nn.ModuleList(EGNNLayer(hidden_channels, **options) for _ in range(num_layers))
        self.readout = nn.Identity() if out_channels is None else nn.Linear(hidden_channels, out_channels)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor | Neighborhood,
        edge_attr: Tensor | None = None,
        *,
        vel: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Features, positions and, with velocities, velocities; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        if x.ndim != 2 or x.shape[1] != self.in_channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, in_channels = {self.in_channels}]")
        nbr = as_neighborhood(edge_index, x.shape[0])
        if edge_attr is not None and edge_attr.shape[0] == nbr.num_edges:
            edge_attr = nbr.to_csr_order(edge_attr)  # once here instead of once per layer
            nbr = nbr.in_csr_order()
        geometry = edge_geometry(pos, nbr)
        h, current = self.embedding(x), vel
        for number, layer in enumerate(self.layers):
            if number and self.update_pos:
                geometry = _moved(geometry, pos, nbr)
            h, pos, *step = layer(h, pos, nbr, edge_attr, vel=current, geometry=geometry)
            current = step[0] if self.velocity == "updated" else vel
        return self.readout(h), pos, *step

    def extra_repr(self) -> str:
        return f"velocity={self.velocity!r}, update_pos={self.update_pos}"


def _moved(geometry: EdgeGeometry, pos: Tensor, nbr: Neighborhood) -> EdgeGeometry:
    """The geometry at new positions; who is whose neighbour, and how many there are, stays as it was."""
    vector = edge_vectors(pos, nbr)
    return geometry._replace(vector=vector, radial=vector.square().sum(-1, keepdim=True))
