"""Clebsch-Gordan coefficients of real spherical harmonics, as e3nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry._constants import constant


def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    r"""Coefficients ``C [2 l1 + 1, 2 l2 + 1, 2 l3 + 1]`` of the one invariant of degrees ``l1, l2, l3``.

    .. math:: C_{abc} = \sum_{ijk} D^{l_1}_{ai}(R)\, D^{l_2}_{bj}(R)\, D^{l_3}_{ck}(R)\, C_{ijk}
        \quad\text{for every rotation } R, \qquad \sum_{abc} C_{abc}^2 = 1

    These are the values, and so the signs, of ``e3nn.o3.wigner_3j``; components run over ``m = -l..l`` with y as the
    polar axis. So ``sqrt(3) C(1,1,0)`` is the identity and ``sqrt(6) C(1,1,1)`` the Levi-Civita tensor. The product
    ``sqrt(2 l3 + 1) sum_ab C_abc u_a v_b`` is the isometric projection of ``u (x) v`` on degree ``l3``.

    Returns:
        float64, on the CPU. It is kept and shared: never write into it.

    Raises:
        ShapeError: unless ``|l1 - l2| <= l3 <= l1 + l2``.

    Cost: computed once per triple (30 ms for degrees of 8); the first call imports e3nn, about a second.

    Example:
        >>> (clebsch_gordan(1, 1, 0)[:, :, 0] * 3**0.5).round(decimals=6).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if min(l1, l2, l3) < 0 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ShapeError("l1, l2, l3", f"{l1}, {l2}, {l3}", "degrees >= 0 with |l1 - l2| <= l3 <= l1 + l2")
    return _wigner_3j(l1, l2, l3, torch.float64, "cpu")


@constant
def _wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    from e3nn import o3  # slow to import

    value: Tensor = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    return value
