import pytest
import torch
from e3nn import o3

from geoattn.errors import InputError
from geoattn.geometry.clebsch_gordan_table import clebsch_gordan_paths, clebsch_gordan_table
from geoattn.kernels import sparse_bilinear

F64 = torch.float64


def rotation_of(degrees, rotation):
    return torch.block_diag(*(o3.Irrep(degree, 1).D_from_matrix(rotation).double() for degree in range(degrees + 1)))


def packed(x, lmax):
    """``[N, (lmax+1)^2, C]`` as e3nn packs it, channel by channel within a degree."""
    return torch.cat([x[:, d * d : (d + 1) ** 2].transpose(1, 2).flatten(1) for d in range(lmax + 1)], dim=1)


@pytest.mark.parametrize("reflections", [False, True])
def test_e3nn_tensor_product(reflections):
    """The weighted product of e3nn, path by path, which sums over paths as we do."""
    lmax_x, lmax_y, lmax_out, channels, edges = 2, 1, 2, 3, 5
    paths = clebsch_gordan_paths(lmax_x, lmax_y, lmax_out, reflections=reflections)
    irreps_x, irreps_y, irreps_out = (
        o3.Irreps([(multiplicity, (degree, 1)) for degree in range(lmax + 1)])
        for multiplicity, lmax in ((channels, lmax_x), (1, lmax_y), (channels, lmax_out))
    )
    product = o3.TensorProduct(
        irreps_x,
        irreps_y,
        irreps_out,
        [(*path, "uvu", True) for path in paths],
        shared_weights=False,
        internal_weights=False,
        irrep_normalization="none",
        path_normalization="none",
    ).double()
    table = clebsch_gordan_table(lmax_x, lmax_y, lmax_out, reflections=reflections)
    x = torch.randn(edges, (lmax_x + 1) ** 2, channels, dtype=F64)
    y = torch.randn(edges, (lmax_y + 1) ** 2, dtype=F64)
    weight = torch.randn(edges, len(paths), channels, dtype=F64)
    found = sparse_bilinear(x, y, table, weight)
    torch.testing.assert_close(packed(found, lmax_out), product(packed(x, lmax_x), y, weight.flatten(1)))


def test_turns_with_its_arguments():
    table = clebsch_gordan_table(2, 2, 3)
    rotation = o3.rand_matrix(dtype=F64)
    x, y = torch.randn(4, 9, 2, dtype=F64), torch.randn(4, 9, 2, dtype=F64)
    weight = torch.randn(4, table.sizes[3], 2, dtype=F64)
    turn, turn_out = rotation_of(2, rotation), rotation_of(3, rotation)
    turned = sparse_bilinear(turn @ x, turn @ y, table, weight)
    torch.testing.assert_close(turned, turn_out @ sparse_bilinear(x, y, table, weight), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("reflections", [False, True])
def test_inversion_is_kept_with_reflections_alone(reflections):
    table = clebsch_gordan_table(2, 2, 2, reflections=reflections)
    sign = torch.tensor([1] + [-1] * 3 + [1] * 5, dtype=F64)[:, None]
    x, y = torch.randn(2, 4, 9, 2, dtype=F64)
    mirrored = sparse_bilinear(sign * x, sign * y, table)
    assert torch.allclose(mirrored, sign * sparse_bilinear(x, y, table)) is reflections


def test_paths():
    assert clebsch_gordan_paths(1, 1, 1) == [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
    assert clebsch_gordan_paths(1, 1, 1, reflections=True) == [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    table = clebsch_gordan_table(1, 2, 3)
    norms = torch.zeros(table.sizes[3], dtype=F64).index_add(0, table.path, table.value.square())
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)
    assert clebsch_gordan_table(1, 2, 3) is table


def test_negative_degree():
    with pytest.raises(InputError, match="lmax_y: got -1, expected a degree of 0 or more"):
        clebsch_gordan_table(1, -1, 1)
