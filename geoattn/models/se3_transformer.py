"""SE(3)-Transformer as a stack: attention layers with non-linearities between them over one geometry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.layers.padded_degrees import PaddedNormNonlinearity, to_packed, to_padded
from geoattn.layers.se3_transformer import SE3TransformerLayer

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class SE3Transformer(nn.Module):
    r"""``num_layers`` times `SE3TransformerLayer` and `NormNonlinearity`, then one attention layer to the output.

    The edges' geometry is computed once and shared by all layers. As in the authors' code for particles, the last layer
    is attention too, with keys and values as wide as the output.

    Paper: "SE(3)-Transformers", NeurIPS 2020, arXiv:2006.10503.

    Args:
        irreps_in: irreps of the input.
        irreps_hidden: irreps between the layers.
        irreps_out: irreps of the result.
        num_layers: layers to hidden features; the output layer comes on top.
        num_heads, channels_div, edge_channels, kernel, radial_channels, reflections, self_interaction, scale, cutoff:
            see `SE3TransformerLayer`.

    Shapes:
        x ``[N, irreps_in.dim]`` packed as e3nn packs them, pos ``[N, 3]``, edge_index ``[2, E]`` or a ``Neighborhood``,
        edge_attr ``[E, A]`` and shift ``[E, 3]`` in the caller's order. Returns ``[N, irreps_out.dim]``.

    Symmetry: that of the layers: SE(3) and permutations, exactly; E(3) with ``reflections``.

    Edge cases: those of `SE3TransformerLayer`.

    Example:
        >>> model = SE3Transformer("1x0e + 1x1o", "8x0e + 8x1o + 8x2e", "2x1o", num_layers=2, num_heads=2)
        >>> edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
        >>> model(torch.randn(4, 4), torch.randn(4, 3), edges).shape
        torch.Size([4, 6])
    """

    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_hidden: str | Irreps,
        irreps_out: str | Irreps,
        num_layers: int = 4,
        num_heads: int = 1,
        channels_div: int = 2,
        edge_channels: int = 0,
        *,
        kernel: Literal["full", "depthwise", "so2"] = "full",
        radial_channels: int = 32,
        reflections: bool = False,
        self_interaction: Literal["cat", "attentive", "sum"] = "cat",
        scale: Literal["total", "per_head"] = "total",
        cutoff: float | None = None,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ShapeError("num_layers", f"{num_layers}", "at least 1")
        self.edge_channels, self.cutoff = edge_channels, cutoff
        options: dict[str, Any] = dict(
            kernel=kernel,
            num_heads=num_heads,
            edge_channels=edge_channels,
            radial_channels=radial_channels,
            reflections=reflections,
            self_interaction=self_interaction,
            scale=scale,
            cutoff=cutoff,
        )
        layers = [
            SE3TransformerLayer(
                irreps_hidden if index else irreps_in, irreps_hidden, channels_div=channels_div, **options
            )
            for index in range(num_layers)
        ]
        self.layout_in = layers[0].layout_in
        self.layers: Iterable[SE3TransformerLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.activations = nn.ModuleList(PaddedNormNonlinearity(irreps_hidden) for _ in range(num_layers))
        self.last = SE3TransformerLayer(irreps_hidden, irreps_out, channels_div=1, **options)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor | Neighborhood,
        edge_attr: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        """New features; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit.
        """
        nbr = as_neighborhood(edge_index, x.shape[0])
        if edge_attr is not None:
            edge_attr = nbr.to_csr_order(edge_attr)
        basis = EdgeBasis.build(pos, nbr, cutoff=self.cutoff, shift=shift)
        x = to_padded(x, self.layout_in)
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer.attend(x, basis, edge_attr))
        return to_packed(self.last.attend(x, basis, edge_attr), self.last.layout_out)
