"""Gated activation: a smooth, exactly equivariant non-linearity of packed irreps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.irreps import PackedLayout, as_irreps

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class Gate(nn.Module):
    r"""SiLU of degree 0; every channel of a degree above is multiplied by the sigmoid of a scalar of its own.

    .. math:: y^0_c = \mathrm{SiLU}(x^0_c), \qquad y^l_c = \sigma(g_{lc})\, x^l_c \quad (l > 0)

    The gating scalars :math:`g` are further channels of degree 0, packed after the features: let the linear map
    before the gate end in ``gate.irreps_in``. It has no parameters, and derivatives of every order.

    Papers: "3D Steerable CNNs", arXiv:1807.02547; Equiformer, arXiv:2206.11990.

    Args:
        irreps: irreps of the features, e.g. ``"8x0e + 4x1o"``.

    Attributes:
        irreps_in: ``irreps`` and one more ``0e`` for each channel of a degree above 0.
        irreps_out: ``irreps``.

    Shapes:
        x ``[..., irreps_in.dim]``; returns ``[..., irreps_out.dim]``; both packed as e3nn packs them.

    Symmetry: equivariant to SO(3), exactly; to O(3) where all irreps of degree 0 are even.

    Example:
        >>> gate = Gate("8x0e + 4x1o")
        >>> gate.irreps_in, gate(torch.randn(5, 24)).shape
        (8x0e+4x1o+4x0e, torch.Size([5, 20]))
    """

    def __init__(self, irreps: str | Irreps) -> None:
        super().__init__()
        self.layout = PackedLayout(irreps)
        self.irreps_out = self.layout.irreps
        self._gated = {degree: mul for degree, mul in self.layout.multiplicity.items() if degree}
        self.num_gates = sum(self._gated.values())
        self.irreps_in = self.irreps_out + as_irreps(f"{self.num_gates}x0e" if self.num_gates else "")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the gates; see the class for shapes.

        Raises:
            ShapeError: if the last axis of ``x`` is not ``irreps_in.dim``.
        """
        dim = self.layout.dim
        if x.ndim == 0 or x.shape[-1] != dim + self.num_gates:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[..., {dim + self.num_gates}], packed {self.irreps_in}")
        features, gates = x.split([dim, self.num_gates], dim=-1)
        degrees = self.layout.split(features)
        parts = torch.sigmoid(gates).split(list(self._gated.values()), dim=-1)
        for degree, part in zip(self._gated, parts, strict=True):
            degrees[degree] = degrees[degree] * part.unsqueeze(-1)
        if 0 in degrees:
            degrees[0] = functional.silu(degrees[0])
        return self.layout.join(degrees)

    def extra_repr(self) -> str:
        return f"{self.irreps_out}"
