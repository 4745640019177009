import json

import pytest
import torch

from geoattn.domains.molecules.targets import TargetTransform, composition
from geoattn.errors import InputError, ShapeError


def counts(**atoms):
    """Composition vectors: counts(H=[2, 4], O=[1, 0])."""
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8}
    vectors = torch.zeros(len(next(iter(atoms.values()))), 119, dtype=torch.float64)
    for name, column in atoms.items():
        vectors[:, numbers[name]] = torch.tensor(column, dtype=torch.float64)
    return vectors


def test_composition_of_a_batch():
    z = torch.tensor([8, 1, 1, 6, 1, 1, 1, 1])
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    torch.testing.assert_close(composition(z, batch, 3), counts(H=[2, 4, 0], C=[0, 1, 0], O=[1, 0, 0]))


def test_regression():
    y = torch.tensor([[1.0, 10.0], [3.0, torch.nan], [5.0, 30.0]])
    transform = TargetTransform.fit(y)
    assert transform.mean == [3.0, 20.0]
    assert transform.std == pytest.approx([(8 / 3) ** 0.5, 10.0])
    normalized = transform.normalize(y)
    assert normalized.dtype == torch.float32 and torch.isnan(normalized[1, 1])
    torch.testing.assert_close(transform.denormalize(normalized), y.double(), equal_nan=True, atol=1e-6, rtol=0)


def test_constant_and_empty_columns():
    transform = TargetTransform.fit(torch.tensor([[2.0, torch.nan], [2.0, torch.nan]]))
    assert (transform.mean, transform.std) == ([2.0, 0.0], [1.0, 1.0])


def test_classification_is_left_alone():
    y = torch.tensor([[0.0], [1.0], [torch.nan]])
    transform = TargetTransform.fit(y, kind="classification")
    torch.testing.assert_close(transform.normalize(y), y, equal_nan=True)


def test_energy_references_are_recovered():
    atoms = counts(H=[4, 2, 0, 6], C=[1, 0, 1, 2], O=[0, 1, 2, 0])
    reference = {"H": -13.6, "C": -1030.0, "O": -2042.0}
    y = atoms[:, [1, 6, 8]] @ torch.tensor(list(reference.values()), dtype=torch.float64)
    transform = TargetTransform.fit(y[:, None], atoms, "energy")
    assert transform.reference == {1: [pytest.approx(-13.6)], 6: [pytest.approx(-1030)], 8: [pytest.approx(-2042)]}
    assert transform.mean == [0.0]
    assert transform.normalize(y[:, None], atoms).abs().max() < 1e-6


def test_energies_of_separate_molecules_add_up():
    """No constant: the denormalised energy of two molecules is the sum of theirs."""
    atoms = counts(H=[4, 2, 0, 6], C=[1, 0, 1, 2], O=[0, 1, 2, 0])
    y = torch.tensor([[-5.0], [-3.0], [-8.0], [-9.0]])
    transform = TargetTransform.fit(y, atoms, "energy")
    output = torch.tensor([[0.3], [-1.2]])
    apart = transform.denormalize(output, atoms[:2])
    together = transform.denormalize(output.sum(dim=0, keepdim=True), atoms[:2].sum(dim=0, keepdim=True))
    torch.testing.assert_close(apart.sum(dim=0), together[0])


def test_compositions_of_deficient_rank():
    """All molecules are isomers: the references are not determined, but the fit is."""
    atoms = counts(H=[6] * 4, C=[2] * 4, O=[1] * 4)
    y = torch.tensor([[-10.0], [-11.0], [-12.0], [-11.0]])
    transform = TargetTransform.fit(y, atoms, "energy")
    torch.testing.assert_close(transform.denormalize(torch.zeros(4, 1), atoms), torch.full((4, 1), -11.0).double())
    norm = sum(value[0] ** 2 for value in transform.reference.values())
    assert norm == pytest.approx(11**2 / (36 + 4 + 1)), "least norm"


def test_element_that_training_lacks_counts_nothing():
    transform = TargetTransform.fit(torch.tensor([[1.0], [2.0]]), counts(H=[1, 2]), "energy")
    assert set(transform.reference) == {1}
    torch.testing.assert_close(
        transform.denormalize(torch.zeros(1, 1), counts(H=[3], N=[5])), torch.full((1, 1), 3.0).double()
    )


def test_gap_in_energies():
    atoms = counts(H=[1, 2, 3], C=[0, 1, 0])
    y = torch.tensor([[1.0, 5.0], [torch.nan, 7.0], [3.0, 15.0]])
    transform = TargetTransform.fit(y, atoms, "energy")
    assert transform.reference[1] == pytest.approx([1.0, 5.0]) and transform.reference[6] == pytest.approx([0.0, -3.0])
    assert torch.isnan(transform.normalize(y, atoms)).tolist() == [[False, False], [True, False], [False, False]]


def test_large_total_energies_keep_their_digits():
    """-1e6 eV with differences of 1e-4 eV: lost in float32 if it were subtracted there."""
    atoms = counts(H=[10, 10])
    y = torch.tensor([[-1e6], [-1e6 + 1e-4]], dtype=torch.float64)
    transform = TargetTransform.fit(y, atoms, "energy")
    torch.testing.assert_close(transform.denormalize(transform.normalize(y, atoms), atoms), y, atol=1e-8, rtol=0)


@pytest.mark.parametrize("kind", ["regression", "energy", "classification"])
def test_survives_json(kind):
    atoms = counts(H=[1, 2, 3], C=[0, 1, 0])
    y = torch.tensor([[0.0], [1.0], [1.0]])
    before = TargetTransform.fit(y, atoms, kind)
    after = TargetTransform.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after.to_dict() == before.to_dict() and after.kind == kind
    torch.testing.assert_close(after.denormalize(y, atoms), before.denormalize(y, atoms))


def test_errors():
    y = torch.zeros(3, 1)
    with pytest.raises(ShapeError, match=r"y: got shape \(3,\)"):
        TargetTransform.fit(y[:, 0])
    with pytest.raises(ShapeError, match="compositions"):
        TargetTransform.fit(y, counts(H=[1, 2]), "energy")
    with pytest.raises(InputError, match="kind: got 'forces'"):
        TargetTransform.fit(y, kind="forces")
    with pytest.raises(ShapeError, match="compositions: got None"):
        TargetTransform.fit(y, counts(H=[1, 2, 3]), "energy").normalize(y)
