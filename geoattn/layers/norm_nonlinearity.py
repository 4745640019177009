"""The SE(3)-Transformer's non-linearity: the length of each channel is changed, its direction stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry.edges import safe_norm, safe_unit
from geoattn.geometry.irreps import PackedLayout

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class NormNonlinearity(nn.Module):
    r"""Layer normalisation and ReLU of the lengths of the channels of each degree.

    .. math:: y^l_c = \mathrm{ReLU}\big(\mathrm{LayerNorm}_c(\|x^l_c\|)\big)\, \frac{x^l_c}{\|x^l_c\|}

    The normalisation runs over the channels of one degree, with a weight and a bias for each. A single channel has
    nothing to be compared with; its length is taken as it is, :math:`\mathrm{ReLU}(w \|x\| + b)`.

    The direction jumps at ``x = 0``, where this gives 0 with a derivative of 0. Close by, derivatives grow without
    bound, and ReLU has none of second order: for energies and forces use ``Gate``.

    Paper: "SE(3)-Transformers", NeurIPS 2020, arXiv:2006.10503.

    Args:
        irreps: irreps of the features, e.g. ``"8x0e + 4x1o"``. Of degree 0 the length is the absolute value.

    Shapes:
        x ``[..., irreps.dim]``, packed as e3nn packs it; returns the same.

    Symmetry: equivariant to O(3), exactly, whatever the parities.

    Example:
        >>> layer = NormNonlinearity("8x0e + 4x1o")
        >>> layer(torch.randn(5, 20)).shape
        torch.Size([5, 20])
    """

    def __init__(self, irreps: str | Irreps) -> None:
        super().__init__()
        self.layout = PackedLayout(irreps)
        self.irreps = self.layout.irreps
        channels = self.layout.multiplicity.items()
        self.weight = nn.ParameterDict({str(degree): torch.empty(mul) for degree, mul in channels})
        self.bias = nn.ParameterDict({str(degree): torch.empty(mul) for degree, mul in channels})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights one, biases zero."""
        for weight, bias in zip(self.weight.values(), self.bias.values(), strict=True):
            nn.init.ones_(weight)
            nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Change the lengths; see the class for shapes.

        Raises:
            ShapeError: if the last axis of ``x`` is not ``irreps.dim``.
        """
        out = {}
        for degree, part in self.layout.split(x).items():
            weight, bias = self.weight[str(degree)], self.bias[str(degree)]
            norm = safe_norm(part)
            if part.shape[-2] > 1:
                length = functional.layer_norm(norm, weight.shape, weight, bias)
            else:
                length = weight * norm + bias
            out[degree] = functional.relu(length).unsqueeze(-1) * safe_unit(part, norm)
        return self.layout.join(out)

    def extra_repr(self) -> str:
        return f"{self.irreps}"
