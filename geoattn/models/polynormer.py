"""Polynormer: local attention layers, then global ones, on graphs of any size in linear time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.layers.polynormer import Beta, PolynormerGlobalLayer, PolynormerLocalLayer, head_groups


class Polynormer(nn.Module):
    r"""Node-level network: ``local_layers`` over edges, then ``global_layers`` of linear attention over whole graphs.

    .. math::
        x &= W_{in} x_0, \qquad x \leftarrow \operatorname{local}_l(x), \qquad
            \bar x = \textstyle\sum_l x^{(l)} \\
        x &= \operatorname{norm}(\bar x), \qquad
            x \leftarrow \operatorname{relu}\big( W_o \operatorname{global}_l(x) \big)

    with one :math:`W_o` for all global layers. Training goes from local to global: first with ``use_global = False``,
    when a head on :math:`\bar x` gives the output and global layers get no gradient, then with ``use_global = True``,
    when the other head on x does.

    Paper: Deng, Yue and Zhang, "Polynormer: Polynomial-Expressive Graph Transformer in Linear Time", ICLR 2024,
    arXiv:2403.01232. Its code never switches the global layers on for the three largest graphs it reports.

    Args:
        in_channels: F, width of the node features.
        hidden_channels: C, width inside; divisible by ``num_heads``.
        out_channels: width of the output.
        local_layers: their number; at least 1.
        global_layers: their number; with 0 there is the local head alone.
        num_heads: H, in both kinds of layers.
        beta: "sigmoid" or a number, see `PolynormerLocalLayer`.
        in_dropout: on the input.
        dropout: in the local layers.
        global_dropout: in the global layers; None for ``dropout``.
        relu: whether there is any relu. Without, and with ``norm=False``, the network is a polynomial where attention
            is constant.
        norm: whether there is any layer normalisation.
        pre_norm: whether local layers normalise their input too.

    Attributes:
        use_global: whether the global layers run; may be set at any time.

    Shapes:
        x ``[N, F]``, edge_index ``[2, E]`` or a ``Neighborhood``, batch ``[N]`` int64 number of each node's graph, None
        for one graph. Returns ``[N, out_channels]``.

    Symmetry: equivariant under node permutations; graphs of a batch do not see each other.

    Cost: O(N C^2 + E C) time for each layer, O(N C + E H) memory: linear in nodes and edges.

    Edge cases: a node without edges has its skip path and the global layers. The paper gives each node a self loop, see
    `geoattn.layers.with_self_loops`.

    Example:
        >>> network = Polynormer(5, 16, 3, local_layers=2, global_layers=1, num_heads=4)
        >>> network(torch.randn(4, 5), torch.tensor([[0, 1, 2], [1, 2, 3]])).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        local_layers: int = 7,
        global_layers: int = 2,
        num_heads: int = 8,
        beta: Beta = "sigmoid",
        in_dropout: float = 0.0,
        dropout: float = 0.0,
        global_dropout: float | None = None,
        relu: bool = True,
        norm: bool = True,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        if local_layers < 1 or global_layers < 0:
            got = f"{local_layers} and {global_layers}"
            raise ShapeError("local_layers, global_layers", got, "at least 1 and at least 0")
        self.in_channels, self.use_global = in_channels, global_layers > 0
        self.embedding = nn.Sequential(
            nn.Dropout(in_dropout), nn.Linear(in_channels, hidden_channels), nn.Dropout(dropout)
        )
        self.local_layers = nn.ModuleList(
            PolynormerLocalLayer(
                hidden_channels, num_heads, beta=beta, dropout=dropout, relu=relu, norm=norm, pre_norm=pre_norm
            )
            for _ in range(local_layers)
        )
        self.local_readout = nn.Linear(hidden_channels, out_channels)
        self.num_heads = num_heads
        self.global_layers = nn.ModuleList(
            PolynormerGlobalLayer(hidden_channels, num_heads, beta=beta, norm=norm) for _ in range(global_layers)
        )
        if global_layers:
            self.global_norm = nn.LayerNorm(hidden_channels) if norm else nn.Identity()
            self.global_out = nn.Sequential(
                nn.Linear(hidden_channels, hidden_channels),
                nn.ReLU() if relu else nn.Identity(),
                nn.Dropout(dropout if global_dropout is None else global_dropout),
            )
            self.global_readout = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor | Neighborhood, batch: Tensor | None = None) -> Tensor:
        """Output of each node; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        if x.ndim != 2 or x.shape[1] != self.in_channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, in_channels = {self.in_channels}]")
        nbr = as_neighborhood(edge_index, x.shape[0]).in_csr_order()
        x = self.embedding(x)
        total = torch.zeros_like(x)
        for layer in self.local_layers:
            x = layer(x, nbr)
            total = total + x
        if not (self.use_global and self.global_layers):
            return self.local_readout(total)
        groups = None if batch is None else head_groups(batch, self.num_heads)
        x = self.global_norm(total)
        for layer in self.global_layers:
            x = self.global_out(layer(x, groups))
        return self.global_readout(x)

    def extra_repr(self) -> str:
        return f"use_global={self.use_global}"
