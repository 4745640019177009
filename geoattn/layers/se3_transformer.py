"""SE(3)-Transformer: attention whose values and keys are tensor field convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError, nearest_hint
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.irreps import PackedLayout
from geoattn.kernels import Neighborhood, as_neighborhood, neighbor_attention
from geoattn.layers.depthwise_conv import DepthwiseConv
from geoattn.layers.padded_degrees import Columns, PaddedLinear, to_packed, to_padded
from geoattn.layers.self_interaction import SelfInteraction
from geoattn.layers.so2_tensor_field_conv import SO2TensorFieldConv
from geoattn.layers.tensor_field_conv import TensorFieldConv

if TYPE_CHECKING:
    from e3nn.o3 import Irreps

CONVOLUTIONS = {"full": TensorFieldConv, "depthwise": DepthwiseConv, "so2": SO2TensorFieldConv}


class SE3TransformerLayer(nn.Module):
    r"""Attention of each node over its neighbours, with features that turn with the points.

    .. math::
        (k_{ij}, v_{ij}) &= \mathrm{TFN}(x_j, \hat r_{ij}, a_{ij}), \qquad q_i = W_Q\, x_i \\
        s_{ijh} &= \frac{1}{\sqrt D} \sum_l \langle q^l_{ih}, k^l_{ijh} \rangle, \qquad
        o_{ih} = \sum_j \operatorname{softmax}_j(s_{ijh})\, v_{ijh} \\
        x_i' &= W\, [o_i, x_i]

    There is one softmax per head over the logits summed over all degrees, so the weights are invariant, and keys and
    values come from one convolution. Keys have the degrees that input and output share.

    Paper: "SE(3)-Transformers", NeurIPS 2020, arXiv:2006.10503.

    Args:
        irreps_in: irreps of the input, e.g. ``"8x0e + 8x1o"``; any number of channels per degree.
        irreps_out: irreps of the result.
        num_heads: H.
        kernel: what an edge can do to the features of its source.

            - "full": a matrix of radial functions for every Clebsch-Gordan path, the paper's (`TensorFieldConv`);
            - "depthwise": a radial function for every path and channel, after a map of the channels that is the same
              for all edges (`DepthwiseConv`);
            - "so2": a radial function for every input channel, degree and order, then matrices of all paths that are
              the same for all edges, in the edges' frames (`SO2TensorFieldConv`).

            The last two compute some of the functions of the first, for a small part of its time and memory, which
            hold no matrix of an edge. Neither contains the other. Keys and values have the same form.
        channels_div: keys and values have ``1 / channels_div`` of the output's channels, rounded up to a multiple of H.
        edge_channels: A, width of ``edge_attr``, which enters the radial network beside the distance.
        radial_channels: width of the radial network.
        reflections: False: SE(3), the default; True: E(3), by leaving out the paths that are odd under reflections.
        self_interaction: "cat": a linear map of what was received and the node's own features; "attentive": the same
            with a matrix made of the features themselves (`SelfInteraction`); "sum": the features are added
            to a linear map of what was received.
        scale: D is the size of all keys, "total", as the authors have it, or that of one head, "per_head".
        cutoff: length at which an edge vanishes, with two continuous derivatives; None: all edges count fully.

    Shapes:
        x ``[N, irreps_in.dim]`` packed as e3nn packs them, pos ``[N, 3]``, edge_index ``[2, E]`` or a ``Neighborhood``,
        edge_attr ``[E, A]`` and shift ``[E, 3]`` in the caller's order. Returns ``[N, irreps_out.dim]``.

    Symmetry: exact. x' is equivariant under rotations, does not change with translations, and permutes with the nodes;
    with ``reflections`` also equivariant under reflections, for irreps of natural parity (0e, 1o, 2e, ...).

    Edge cases: a node without edges receives exactly 0, and keeps its own path. An edge of zero length has no direction
    and sends nothing: connected nodes at one place do not see each other. Symmetry would allow the paths with J = 0
    there. Keeping them would not make x' continuous where points meet: the radial functions of the other paths, and so
    the softmax, do not vanish as the length does, and their limit depends on the direction.

    Example:
        >>> layer = SE3TransformerLayer("8x0e + 2x1o", "8x0e + 8x1o + 8x2e", num_heads=2)
        >>> edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
        >>> layer(torch.randn(4, 14), torch.randn(4, 3), edges).shape
        torch.Size([4, 72])
    """

    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        *,
        kernel: Literal["full", "depthwise", "so2"] = "full",
        num_heads: int = 1,
        channels_div: int = 2,
        edge_channels: int = 0,
        radial_channels: int = 32,
        reflections: bool = False,
        self_interaction: Literal["cat", "attentive", "sum"] = "cat",
        scale: Literal["total", "per_head"] = "total",
        cutoff: float | None = None,
    ) -> None:
        super().__init__()
        self.layout_in, self.layout_out = PackedLayout(irreps_in, "irreps_in"), PackedLayout(irreps_out, "irreps_out")
        for argument, value, known in (
            ("kernel", kernel, tuple(CONVOLUTIONS)),
            ("self_interaction", self_interaction, ("cat", "attentive", "sum")),
            ("scale", scale, ("total", "per_head")),
        ):
            if value not in known:
                raise ShapeError(argument, repr(value), " or ".join(map(repr, known)), nearest_hint(str(value), known))
        if reflections:
            _check_parities(self.layout_in, "irreps_in")
            _check_parities(self.layout_out, "irreps_out")
        self.num_heads, self.edge_channels, self.cutoff = num_heads, edge_channels, cutoff
        inputs, outputs = self.layout_in.multiplicity, self.layout_out.multiplicity
        values = {degree: math.ceil(n / (channels_div * num_heads)) * num_heads for degree, n in outputs.items()}
        keys = {degree: n for degree, n in values.items() if degree in inputs} or dict.fromkeys(inputs, num_heads)
        self.columns_key, self.columns_value = Columns.heads(keys, num_heads), Columns.heads(values, num_heads)
        columns_in = Columns.heads(inputs)
        key_dim = sum(n * (2 * degree + 1) for degree, n in keys.items())
        self.scale = (key_dim if scale == "total" else key_dim // num_heads) ** -0.5
        self.query = PaddedLinear(irreps_in, self.columns_key.irreps, columns_in, self.columns_key)
        self.conv = CONVOLUTIONS[kernel](
            columns_in,
            self.columns_key.beside(self.columns_value),
            edge_channels=edge_channels,
            radial_channels=radial_channels,
            reflections=reflections,
        )
        self.out = SelfInteraction(
            self.columns_value.irreps, irreps_in, irreps_out, self.columns_value, kind=self_interaction
        )

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor | Neighborhood,
        edge_attr: Tensor | None = None,
        *,
        shift: Tensor | None = None,
        basis: EdgeBasis | None = None,
    ) -> Tensor:
        """New features; see the class for shapes.

        Args:
            basis: ``EdgeBasis.build(pos, nbr, ...)``, where several layers share it; its cutoff is the one that counts.

        Raises:
            ShapeError: if a tensor's shape does not fit.
        """
        nbr = as_neighborhood(edge_index, x.shape[0])
        if edge_attr is not None:
            edge_attr = nbr.to_csr_order(edge_attr)
        if basis is None:
            basis = EdgeBasis.build(pos, nbr, cutoff=self.cutoff, shift=shift)
        return to_packed(self.attend(to_padded(x, self.layout_in), basis, edge_attr), self.layout_out)

    def attend(self, x: Tensor, basis: EdgeBasis, edge_attr: Tensor | None = None) -> Tensor:
        """The same for padded features, ``[N, (L_in+1)^2, C]`` -> ``[N, (L_out+1)^2, C']``: what a stack calls.

        Args:
            x: features as `to_padded` makes them.
            basis: the edges' geometry.
            edge_attr: ``[E, A]`` in the order of ``basis``.
        """
        messages = self.conv(x, basis, edge_attr)
        k, v = messages.split([self.columns_key.width, self.columns_value.width], dim=1)
        q = self.query(x)
        q = functional.pad(q, (0, 0, 0, messages.shape[2] - q.shape[1])).mT
        # a zero weight masks, so that its derivative is not asked for
        bias = basis.weight.clamp(min=1e-12).log().masked_fill(basis.weight == 0, -math.inf)
        if basis.cutoff is not None:
            v = v * basis.weight[:, None, None]
        q, k, v = (self._heads(rows) for rows in (q, k, v))
        received = neighbor_attention(
            q,
            k,
            v,
            basis.nbr,
            bias.unsqueeze(1).expand(-1, self.num_heads),
            self.scale,
            kv="edge",
        )
        return self.out(received.reshape(x.shape[0], self.columns_value.width, messages.shape[2]).mT, x)

    def _heads(self, x: Tensor) -> Tensor:
        """``[rows, C, S]`` as ``[rows, H, (C / H) S]``."""
        return x.unflatten(1, (self.num_heads, x.shape[1] // self.num_heads)).flatten(2)

    def extra_repr(self) -> str:
        return f"{self.layout_in.irreps}, {self.layout_out.irreps}, num_heads={self.num_heads}"


def _check_parities(layout: PackedLayout, argument: str) -> None:
    if any(mul and ir.p != (-1) ** ir.l for mul, ir in layout.irreps):
        raise ShapeError(argument, f"{layout.irreps}", "natural parities (0e, 1o, 2e, ...)", "Or reflections=False.")
