import pytest
import torch
from e3nn import o3

from geoattn.errors import InputError, ShapeError
from geoattn.geometry.irreps import PackedLayout, as_irreps, natural_irreps, to_degrees, to_packed


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


def test_packed_layout_groups_degrees_and_joins_them_again():
    irreps = o3.Irreps("2x1o + 1x0e + 3x1e + 0x2e + 2x0o")
    layout = PackedLayout(irreps)
    assert layout.multiplicity == {0: 3, 1: 5} and list(layout.multiplicity) == [0, 1]
    x = torch.randn(4, 6, irreps.dim)
    parts = layout.split(x)
    blocks = [
        x[..., place].unflatten(-1, (mul, -1)) for (mul, _), place in zip(irreps, irreps.slices(), strict=True) if mul
    ]
    assert torch.equal(parts[0], torch.cat([blocks[1], blocks[3]], dim=-2))
    assert torch.equal(parts[1], torch.cat([blocks[0], blocks[2]], dim=-2))
    assert torch.equal(layout.join(parts), x)
    assert layout.join(layout.split(x[:0])).shape == (0, 6, irreps.dim)


def test_packed_layout_names_the_argument_that_does_not_fit():
    with pytest.raises(ShapeError, match=r"^y: got shape \(4, 7\), expected \[..., 8\], packed 2x0e\+2x1o"):
        PackedLayout("2x0e+2x1o").split(torch.randn(4, 7), "y")
    with pytest.raises(ShapeError, match=r"^irreps_out: got '0x1o', expected at least one"):
        PackedLayout("0x1o", "irreps_out")
    with pytest.raises(InputError, match=r"^irreps_in"):
        PackedLayout("1x", "irreps_in")
