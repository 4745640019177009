"""What follows attention in an SE(3)-Transformer: what a node received and its own features become its new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry.irreps import PackedLayout, as_irreps
from geoattn.layers.padded_degrees import Columns, PaddedLinear, to_packed, to_padded

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class SelfInteraction(nn.Module):
    r"""``x' = W [o, x]``, in one of three forms, for features padded to one number of channels.

    - "cat": a matrix per degree over the channels of both, what was received, o, and what was there, x;
    - "attentive": this matrix is made of the features themselves, see `AttentiveSelfInteraction`;
    - "sum": ``x' = W o + x``, where channels that x lacks count as zero and those that x' lacks are dropped.

    Args:
        irreps_received: irreps of o, natural.
        irreps_in: irreps of x.
        irreps_out: irreps of x'.
        columns_received: where the channels of o stand.
        kind: which form.

    Shapes:
        received ``[N, (L_o+1)^2, C_o]``, x ``[N, (L_in+1)^2, C]``; returns ``[N, (L_out+1)^2, C']``, all padded.

    Symmetry: equivariant to O(3), exactly, for irreps of natural parity.
    """

    def __init__(
        self,
        irreps_received: str | Irreps,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        columns_received: Columns,
        kind: Literal["cat", "attentive", "sum"] = "cat",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.layout_in, self.layout_out = PackedLayout(irreps_in), PackedLayout(irreps_out)
        columns_in, columns_out = (Columns.heads(side.multiplicity) for side in (self.layout_in, self.layout_out))
        both = columns_received.beside(columns_in)
        irreps_both = as_irreps(irreps_received) + self.layout_in.irreps
        if kind == "sum":
            self.linear = PaddedLinear(irreps_received, irreps_out, columns_received, columns_out)
        elif kind == "cat":
            self.linear = PaddedLinear(irreps_both, irreps_out, both, columns_out)
        else:
            self.attentive = AttentiveSelfInteraction(irreps_both, irreps_out)
            self.columns_received, self.layout_received = columns_received, PackedLayout(irreps_received)

    def forward(self, received: Tensor, x: Tensor) -> Tensor:
        """New features; see the class for shapes."""
        if self.kind == "sum":
            y = self.linear(received)
            own = x[:, : y.shape[1], : y.shape[2]]
            return y + functional.pad(own, (0, y.shape[2] - own.shape[2], 0, y.shape[1] - own.shape[1]))
        if self.kind == "cat":
            own = x[:, : received.shape[1]]
            own = functional.pad(own, (0, 0, 0, received.shape[1] - own.shape[1]))
            return self.linear(torch.cat([received, own], dim=2))
        packed = [to_packed(received, self.layout_received, self.columns_received), to_packed(x, self.layout_in)]
        return to_padded(self.attentive(torch.cat(packed, dim=1)), self.layout_out)


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
