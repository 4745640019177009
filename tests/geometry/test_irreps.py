import pytest
import torch
from e3nn import o3

from geoattn.errors import InputError, ShapeError
from geoattn.geometry.irreps import as_irreps, natural_irreps, to_degrees, to_packed


@pytest.mark.parametrize("lmax", [0, 1, 4])
def test_layouts_are_inverse_and_as_e3nn_packs(lmax):
    irreps = o3.Irreps(natural_irreps(lmax, 3))
    x = torch.randn(5, irreps.dim)
    degrees = to_degrees(x, irreps)
    assert degrees.shape == (5, (lmax + 1) ** 2, 3)
    for (mul, ir), place in zip(irreps, irreps.slices(), strict=True):
        block = x[:, place].reshape(5, mul, ir.dim)
        assert torch.equal(degrees[:, ir.l**2 : (ir.l + 1) ** 2], block.transpose(1, 2))
    assert torch.equal(to_packed(degrees), x)


def test_no_rows():
    assert to_degrees(torch.empty(0, 12), "3x0e+3x1o").shape == (0, 4, 3)
    assert to_packed(torch.empty(0, 4, 3)).shape == (0, 12)


def test_natural_parity():
    assert o3.Irreps(natural_irreps(3, 2)) == o3.Irreps([(2, (degree, (-1) ** degree)) for degree in range(4)])


def test_as_irreps_takes_text_and_irreps():
    assert as_irreps("2x0e + 1o") == as_irreps(o3.Irreps("2x0e + 1x1o"))
    with pytest.raises(InputError, match=r"^irreps_in: got '2xs'.*8x0e"):
        as_irreps("2xs", "irreps_in")


@pytest.mark.parametrize("irreps", ["2x0e+3x1o", "2x1o+2x0e", "2x1o", "2x0e+2x2e", ""])
def test_to_degrees_refuses_other_irreps(irreps):
    with pytest.raises(ShapeError, match=r"^irreps.*same multiplicity"):
        to_degrees(torch.randn(1, o3.Irreps(irreps).dim), irreps)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"^x: got shape \(4, 7\), expected \[N, 8\]"):
        to_degrees(torch.randn(4, 7), "2x0e+2x1o")
    for shape in [(4, 5, 2), (4, 0, 2), (4, 4)]:
        with pytest.raises(ShapeError, match=r"^x.*\(L\+1\)\^2"):
            to_packed(torch.randn(shape))
