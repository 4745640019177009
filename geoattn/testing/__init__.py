"""Checks for equivariant code, yours included: symmetry errors and contract tests to inherit. Needs no pytest."""

from geoattn.testing.contract import ContractGraph, LayerContract
from geoattn.testing.equivariance import (
    TOLERANCE,
    EquivarianceReport,
    assert_equivariant,
    equivariance_error,
    relative_error,
)
from geoattn.testing.groups import Element, Group, Spec, random_orthogonal

__all__ = [
    "TOLERANCE",
    "ContractGraph",
    "Element",
    "EquivarianceReport",
    "Group",
    "LayerContract",
    "Spec",
    "assert_equivariant",
    "equivariance_error",
    "random_orthogonal",
    "relative_error",
]
