"""Polynormer's two layers: attention over edges, and linear attention over all nodes of a graph, each times a gate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.kernels import (
    Neighborhood,
    as_neighborhood,
    gather_scatter,
    segment_matmul,
    segment_outer,
    segment_reduce,
    segment_softmax,
)

Beta = float | Literal["sigmoid"]


class PolynormerLocalLayer(nn.Module):
    r"""Additive attention over edges, times a gate linear in the features.

    .. math::
        \alpha_{ij}^h &= \operatorname{softmax}_{j \in N(i)} \operatorname{lrelu}_{0.2}
            \big( a_s^h \cdot (W x_j)^h + a_t^h \cdot (W x_i)^h \big) \\
        y_i &= \operatorname{relu} \big( [\textstyle\sum_j \alpha_{ij}^h (W x_j)^h]_h + W_s x_i \big), \qquad
            g_i = \operatorname{relu}(W_g x_i) \\
        x_i &\leftarrow (1 - \beta) \odot \operatorname{norm}(g_i \odot y_i) + \beta \odot y_i

    The product of two linear maps doubles the degree of the features as polynomials of the input (exactly so without
    relu and norm, where attention is constant): L layers reach degree :math:`2^L`.

    Paper: Deng, Yue and Zhang, "Polynormer: Polynomial-Expressive Graph Transformer in Linear Time", ICLR 2024,
    arXiv:2403.01232.

    Args:
        channels: C, width of the features; divisible by ``num_heads``.
        num_heads: H.
        beta: "sigmoid" for :math:`\beta = \sigma(b)` with b near 0, in (0, 1) for good; a number for a learned
            :math:`\beta` that starts there and is not bounded. One per channel.
        dropout: on y, in training.
        relu: whether the two relu are there.
        norm: whether the layer normalisation is there.
        pre_norm: whether the features are normalised first.

    Shapes:
        x ``[N, C]``, edge_index ``[2, E]`` or a ``Neighborhood``. Returns ``[N, C]``.

    Symmetry: equivariant under node permutations. No coordinates enter.

    Cost: O(N C^2 + E C) time, O(N C + E H) memory.

    Edge cases: a node without edges gets the skip path :math:`W_s x_i` alone. The paper gives each node a self loop,
    see `with_self_loops`.

    Example:
        >>> layer = PolynormerLocalLayer(16, num_heads=4)
        >>> layer(torch.randn(3, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        beta: Beta = "sigmoid",
        dropout: float = 0.0,
        relu: bool = True,
        norm: bool = True,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        _check_heads(channels, num_heads)
        self.channels, self.num_heads = channels, num_heads
        self.pre_norm = nn.LayerNorm(channels) if pre_norm else nn.Identity()
        self.value = nn.Linear(channels, channels, bias=False)
        bound = (6 / (channels // num_heads + 1)) ** 0.5
        self.score = nn.Parameter(torch.empty(2, num_heads, channels // num_heads).uniform_(-bound, bound))
        self.skip = nn.Linear(channels, channels)
        self.gate = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.beta = _Beta(channels, beta)
        self.dropout = nn.Dropout(dropout)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor, edge_index: Tensor | Neighborhood) -> Tensor:
        """Update node features; see the class for shapes.

        Raises:
            ShapeError: if ``x`` is not ``[N, channels]``.
        """
        _check_width(x, self.channels)
        nbr = as_neighborhood(edge_index, x.shape[0])
        x = self.pre_norm(x)
        values = self.value(x).unflatten(1, (self.num_heads, -1))
        attended = gather_scatter(values, self.weights(values, nbr), nbr).flatten(1)
        y = self.dropout(self.relu(attended.to(x.dtype) + self.skip(x)))
        return torch.lerp(self.norm(self.relu(self.gate(x)) * y).to(y.dtype), y, self.beta().to(y.dtype))

    def weights(self, values: Tensor, nbr: Neighborhood) -> Tensor:
        """``[E, H]`` the attention of each target over its edges, in the caller's order, from ``W x [N, H, D]``."""
        of_source, of_target = torch.einsum("nhd,shd->snh", values, self.score)
        scores = functional.leaky_relu(of_source[nbr.source] + of_target[nbr.target], 0.2)
        return nbr.to_caller_order(segment_softmax(scores, nbr.in_csr_order()))

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}"


class PolynormerGlobalLayer(nn.Module):
    r"""Linear attention of each node over all nodes of its graph, times a gate linear in the features.

    .. math::
        y_i^h &= \frac{q_i^h \sum_j k_j^h \otimes v_j^h}{q_i^h \cdot \sum_j k_j^h}, \qquad
            q = \sigma(W_q x),\ k = \sigma(W_k x),\ v = W_v x \\
        z_i &= \operatorname{norm}([y_i^h]_h) \odot (W_g x_i + \beta)

    Weights are positive and sum to one, without a softmax. The N x N matrix is never made: what all nodes of a graph
    share is a D x D matrix and a vector per head, accumulated in float32 at least. The map :math:`W_o` and the relu
    that follow are the caller's: the paper's layers share them, see `geoattn.models.Polynormer`.

    Paper: Deng, Yue and Zhang, "Polynormer: Polynomial-Expressive Graph Transformer in Linear Time", ICLR 2024,
    arXiv:2403.01232.

    Args:
        channels: C, width of the features; divisible by ``num_heads``.
        num_heads: H; a head is D = C / H neighbouring channels.
        beta: as in `PolynormerLocalLayer`.
        shared_query: whether q = k, as in the paper.
        norm: whether the layer normalisation is there.

    Shapes:
        x ``[N, C]``, batch ``[N]`` int64 number of each node's graph, in any order, or what `head_groups` makes of it,
        or None for one graph. Returns ``[N, C]``.

    Symmetry: equivariant under node permutations. Graphs of a batch do not see each other.

    Cost: O(N C^2) time; O(N C + B C D) memory for B graphs.

    Edge cases: no nodes give no rows; a single node attends to itself; a graph without nodes changes nothing.

    Example:
        >>> layer = PolynormerGlobalLayer(16, num_heads=4)
        >>> layer(torch.randn(5, 16), torch.tensor([0, 0, 0, 1, 1])).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        beta: Beta = "sigmoid",
        shared_query: bool = True,
        norm: bool = True,
    ) -> None:
        super().__init__()
        _check_heads(channels, num_heads)
        self.channels, self.num_heads = channels, num_heads
        self.key = nn.Linear(channels, channels)
        self.query = None if shared_query else nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.gate = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.beta = _Beta(channels, beta)

    def forward(self, x: Tensor, batch: Tensor | Neighborhood | None = None) -> Tensor:
        """The gated attention; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        _check_width(x, self.channels)
        groups = head_groups(batch, self.num_heads) if isinstance(batch, Tensor) else batch
        if groups is not None and groups.num_edges != x.shape[0] * self.num_heads:
            expected = f"one graph number per node, N = {x.shape[0]}, with num_heads = {self.num_heads}"
            raise ShapeError("batch", f"{groups.num_edges} heads of nodes", expected)
        attended = self.norm(self._attend(x, groups))
        return attended * (self.gate(x) + self.beta())

    def _attend(self, x: Tensor, groups: Neighborhood | None) -> Tensor:
        # apart from forward, so that keys and values are gone before the gate is made
        heads = (self.num_heads, -1)
        k = torch.sigmoid(self.key(x)).unflatten(1, heads)
        q = k if self.query is None else torch.sigmoid(self.query(x)).unflatten(1, heads)
        return linear_attention(q, k, self.value(x).unflatten(1, heads), groups).flatten(1).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}"


def head_groups(batch: Tensor, num_heads: int) -> Neighborhood:
    """Which rows `linear_attention` sums: each head of each node belongs to that head of its graph.

    Layers of one forward pass share it. With one graph alone pass None instead.

    Args:
        batch: ``[N]`` int64 number of each node's graph, in any order.
        num_heads: H.

    Returns:
        a neighbourhood of B H targets (graph by graph) and N H edges (node by node).

    Example:
        >>> head_groups(torch.tensor([0, 0, 1]), 2).target.tolist()
        [0, 0, 1, 1, 2, 3]
    """
    if batch.ndim != 1 or batch.is_floating_point():
        raise ShapeError("batch", f"shape {tuple(batch.shape)}, dtype {batch.dtype}", "[N] of an integer dtype")
    num_graphs = int(batch.max()) + 1 if len(batch) else 0
    group = (batch[:, None] * num_heads + torch.arange(num_heads, device=batch.device)).flatten()
    edges = torch.stack([torch.arange(len(group), device=batch.device), group])
    return Neighborhood.from_edge_index(edges, num_graphs * num_heads, len(group))


def linear_attention(q: Tensor, k: Tensor, v: Tensor, groups: Neighborhood | None = None) -> Tensor:
    r"""Attention whose weights are :math:`q_i \cdot k_j` over their sum, in time linear in the number of rows.

    .. math:: y_i = q_i^\top \textstyle\sum_j k_j \otimes v_j \Big/ q_i \cdot \sum_j k_j

    Args:
        q: ``[N, H, D]``, not negative.
        k: ``[N, H, D]``, not negative.
        v: ``[N, H, Dv]``.
        groups: what `head_groups` makes of a batch; None where all rows are one graph.

    Returns:
        ``[N, H, Dv]``, in float32 at least, in which sums and division are done, under autocast too. A row whose
        weights are all 0 gets 0.

    Cost: O(N H D Dv) time in groups, O(N H^2 D Dv) in dense products for one graph; O(N H Dv) memory.

    Example:
        >>> q = torch.rand(4, 1, 2)
        >>> linear_attention(q, q, torch.ones(4, 1, 1)).flatten()
        tensor([1., 1., 1., 1.])
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    with torch.autocast(q.device.type, enabled=False):
        if groups is None:
            # all pairs of heads in one product, of which the blocks of equal heads stay: heads apart would copy rows
            same = torch.eye(q.shape[1], dtype=wide, device=q.device)[:, None, :, None]
            matrix = (k.flatten(1).T @ v.flatten(1)).view(*k.shape[1:], *v.shape[1:]) * same
            total = k.sum(0)[:, :, None, None] * same
            shape = v.shape
            del k, v  # nothing as long as the rows is kept beyond its use
            above = (q.flatten(1) @ matrix.flatten(2).flatten(0, 1)).view(shape)
            below = q.flatten(1) @ total.flatten(2).flatten(0, 1)
        else:
            rows_q, rows_k, rows_v = (t.flatten(0, 1) for t in (q, k, v))
            matrix = segment_outer(rows_k, rows_v, groups)
            total = segment_reduce(rows_k, groups, "sum")
            above = segment_matmul(rows_q, matrix, groups).view(v.shape)
            below = segment_matmul(rows_q, total[:, :, None], groups).view(v.shape[:2])
        return above / below.clamp(min=torch.finfo(wide).tiny)[:, :, None]


class _Beta(nn.Module):
    """A factor per channel, ``[C]``: the sigmoid of a parameter near 0, or a parameter that starts at a number."""

    def __init__(self, channels: int, beta: Beta) -> None:
        super().__init__()
        if isinstance(beta, str) and beta != "sigmoid":
            raise ShapeError("beta", repr(beta), "'sigmoid' or a number")
        self.bounded = beta == "sigmoid"
        start = torch.full((channels,), 0.0 if isinstance(beta, str) else float(beta))
        if self.bounded:
            start.normal_(0, (2 / (channels + 1)) ** 0.5)
        self.weight = nn.Parameter(start)

    def forward(self) -> Tensor:
        return torch.sigmoid(self.weight) if self.bounded else self.weight


def _check_heads(channels: int, num_heads: int) -> None:
    if num_heads < 1 or channels % num_heads:
        raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}")


def _check_width(x: Tensor, channels: int) -> None:
    if x.ndim != 2 or x.shape[1] != channels:
        raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, channels = {channels}]")
