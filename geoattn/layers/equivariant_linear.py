"""Linear maps between packed irreps: the channels of each degree are mixed, its components are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoattn.geometry.irreps import PackedLayout

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class EquivariantLinear(nn.Module):
    r"""The linear map that commutes with rotations: a matrix over the channels of each degree, a bias on degree 0.

    .. math:: y^l_{om} = \sum_c W^l_{oc}\, x^l_{cm} + \delta_{l0}\, b_o

    Degrees that the input lacks come out as zeros (and as the bias for degree 0); degrees that the output lacks are
    dropped.

    Args:
        irreps_in: irreps of the input, e.g. ``"8x0e + 4x1o"``. A degree may stand in several places.
        irreps_out: irreps of the output.
        bias: whether degree 0 has a bias.

    Shapes:
        x ``[..., irreps_in.dim]``; returns ``[..., irreps_out.dim]``; both packed as e3nn packs them.

    Initial values: input components of variance 1 give output components of variance 1 ("component" normalisation).

    Symmetry: equivariant to SO(3), exactly. Parities are not looked at: it is equivariant to O(3) too where all irreps
    of one degree have the same parity, as those of natural parity ``(-1)^l`` have.

    Cost: ``sum_l (2l + 1) C_in C_out`` multiplications per row; one matrix product per degree.

    Example:
        >>> layer = EquivariantLinear("8x0e + 4x1o", "2x0e + 2x1o + 2x2e")
        >>> layer(torch.randn(5, 20)).shape
        torch.Size([5, 18])
    """

    def __init__(self, irreps_in: str | Irreps, irreps_out: str | Irreps, bias: bool = True) -> None:
        super().__init__()
        self.layout_in, self.layout_out = PackedLayout(irreps_in, "irreps_in"), PackedLayout(irreps_out, "irreps_out")
        self.irreps_in, self.irreps_out = self.layout_in.irreps, self.layout_out.irreps
        inputs, outputs = self.layout_in.multiplicity, self.layout_out.multiplicity
        self.weight = nn.ParameterDict(
            {str(degree): torch.empty(outputs[degree], inputs[degree]) for degree in outputs if degree in inputs}
        )
        self.bias = nn.Parameter(torch.empty(outputs[0])) if bias and 0 in outputs else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of variance ``1 / C_in`` for each degree, bias zero."""
        for weight in self.weight.values():
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels; see the class for shapes.

        Raises:
            ShapeError: if the last axis of ``x`` is not ``irreps_in.dim``.
        """
        degrees = self.layout_in.split(x)
        out = {int(degree): weight @ degrees[int(degree)] for degree, weight in self.weight.items()}
        for degree, channels in self.layout_out.multiplicity.items():
            if degree not in out:
                out[degree] = x.new_zeros(*x.shape[:-1], channels, 2 * degree + 1)
        if self.bias is not None:
            out[0] = out[0] + self.bias.unsqueeze(-1)
        return self.layout_out.join(out)

    def extra_repr(self) -> str:
        return f"{self.irreps_in}, {self.irreps_out}, bias={self.bias is not None}"
