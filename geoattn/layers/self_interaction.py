"""What follows attention in an SE(3)-Transformer: the node's own features and what it received become its new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry.irreps import PackedLayout

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class AttentiveSelfInteraction(nn.Module):
    r"""Channel mixing whose matrix is a softmax of the features' own scalar products.

    .. math::
        G^l_{ab} = x^l_a \cdot x^l_b, \qquad
        y^l_o = \sum_c \operatorname{softmax}_c\big(W\, \mathrm{LeakyReLU}(\mathrm{LayerNorm}(G^l))\big)_{oc}\, x^l_c

    Paper: "SE(3)-Transformers", arXiv:2006.10503, section 3.3, as in the authors' code.

    Args:
        irreps_in: irreps of the features.
        irreps_out: irreps of the result. Degrees that the input lacks come out as zeros.

    Shapes:
        x ``[N, irreps_in.dim]``; returns ``[N, irreps_out.dim]``; both packed as e3nn packs them.

    Symmetry: equivariant to O(3), exactly, for irreps of natural parity.

    Cost: ``C_l^3 C'_l`` multiplications per node and degree: the matrices have as many parameters.

    Example:
        >>> AttentiveSelfInteraction("4x0e + 2x1o", "2x0e + 2x1o")(torch.randn(5, 10)).shape
        torch.Size([5, 8])
    """

    def __init__(self, irreps_in: str | Irreps, irreps_out: str | Irreps) -> None:
        super().__init__()
        self.layout_in, self.layout_out = PackedLayout(irreps_in, "irreps_in"), PackedLayout(irreps_out, "irreps_out")
        inputs, outputs = self.layout_in.multiplicity, self.layout_out.multiplicity
        self.norms, self.linears = nn.ModuleDict(), nn.ModuleDict()
        for degree in outputs:
            if degree in inputs:
                size = inputs[degree] ** 2
                self.norms[str(degree)] = nn.LayerNorm(size) if size > 1 else nn.Identity()
                self.linears[str(degree)] = nn.Linear(size, outputs[degree] * inputs[degree])

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels; see the class for shapes."""
        parts = self.layout_in.split(x)
        out = {}
        for degree, channels in self.layout_out.multiplicity.items():
            if str(degree) not in self.linears:
                out[degree] = x.new_zeros(x.shape[0], channels, 2 * degree + 1)
                continue
            part = parts[degree]
            gram = functional.leaky_relu(self.norms[str(degree)]((part @ part.mT).flatten(1)))
            logits = self.linears[str(degree)](gram).unflatten(1, (channels, part.shape[1]))
            out[degree] = torch.softmax(logits, dim=2) @ part
        return self.layout_out.join(out)


def add_channels(y: Tensor, x: Tensor, layout_y: PackedLayout, layout_x: PackedLayout) -> Tensor:
    """``y + x`` channel by channel: channels that x lacks count as zero, those that y lacks are dropped.

    Args:
        y: ``[N, layout_y.dim]``.
        x: ``[N, layout_x.dim]``.
    """
    if layout_y.irreps == layout_x.irreps:
        return y + x
    ours, theirs = layout_y.split(y), layout_x.split(x)
    for degree, part in theirs.items():
        if degree in ours:
            missing = ours[degree].shape[1] - part.shape[1]
            ours[degree] = ours[degree] + functional.pad(part, (0, 0, 0, missing))
    return layout_y.join(ours)
