import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geoattn.domains.molecules.baselines import (
    LinearComposition,
    Mean,
    NearestMolecules,
    NearestStructures,
    RandomForest,
    baselines_for,
)
from geoattn.domains.molecules.geometry import edges
from geoattn.errors import ShapeError


def structure(numbers, positions):
    positions = np.asarray(positions, dtype=np.float64)
    return Data(
        z=torch.tensor(numbers),
        pos=torch.from_numpy(positions).float(),
        edge_index=torch.from_numpy(edges(positions, None)),
    )


@pytest.fixture
def waters():
    """60 bent molecules of random bond length; every third has a sulfur instead of the oxygen."""
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.8, 2.0, 60)
    numbers = [[16 if i % 3 == 0 else 8, 1, 1] for i in range(60)]
    return [structure(z, [[0, 0, 0], [r, 0, 0], [0, r, 0]]) for z, r in zip(numbers, lengths, strict=True)], lengths


def rows(first=0, last=40):
    return np.arange(first, last)


def test_mean(waters):
    y = np.arange(60.0)[:, None]
    predictions = Mean(waters[0], [""] * 60, "regression").fit_predict(y, rows(), rows(40, 60))
    assert predictions.shape == (20, 1) and (predictions == 19.5).all()


def test_composition_is_fitted_exactly(waters):
    samples, _ = waters
    y = np.array([[-16.0 - 2 * (i % 3 == 0), float(i % 3 == 0)] for i in range(60)])
    linear = LinearComposition(samples, [""] * 60, "regression")
    np.testing.assert_allclose(linear.fit_predict(y, rows(), rows(40, 60)), y[40:], atol=1e-4)
    classes = LinearComposition(samples, [""] * 60, "classification").fit_predict(y[:, 1:], rows(), rows(40, 60))
    assert ((classes > 0.5) == y[40:, 1:]).all() and ((classes > 0) & (classes < 1)).all()


def test_nearest_structures_learn_the_bond_length(waters):
    samples, lengths = waters
    y = (lengths**2)[:, None]
    nearest = NearestStructures(samples, [""] * 60, "regression").fit_predict(y, rows(), rows(40, 60))
    assert np.abs(nearest - y[40:]).mean() < 0.15 * np.abs(y[40:] - y[:40].mean()).mean()


def test_nearest_structures_do_not_see_orientation_or_order(waters):
    samples, _ = waters
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = [structure(s.z.flip(0).tolist(), s.pos.numpy()[::-1] @ rotation.T + 3.0) for s in samples]
    a, b = (NearestStructures(s, [""] * 60, "regression").features for s in (samples, turned))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_nearest_structures_of_energies_start_from_the_composition(waters):
    """The energy of a size that training lacks: neighbours alone would predict a training energy."""
    samples = waters[0] + [structure([8, 1], [[0, 0, 0], [1, 0, 0]])]
    y = np.array([[float(3 * (s.z == 1).sum() + 100 * (s.z > 1).sum())] for s in samples])
    train = np.array([*range(40), 60])
    energies = NearestStructures(samples, [""] * 61, "energy").fit_predict(y, train, rows(40, 60))
    np.testing.assert_allclose(energies, y[40:60], rtol=1e-3)


@pytest.fixture
def alcohols():
    pytest.importorskip("rdkit")
    from geoattn.domains.molecules.featurize import featurize, make_preprocess
    from geoattn.domains.molecules.records import Record

    smiles = [f"{'C' * (i // 2 + 1)}{'O' if i % 2 else 'Cl'}" for i in range(40)]
    return [featurize(Record(smiles=s), make_preprocess()) for s in smiles], smiles


@pytest.mark.parametrize("kind", [RandomForest, NearestMolecules])
def test_fingerprint_baselines(alcohols, kind):
    samples, smiles = alcohols
    y = np.array([[10.0 * (i % 2), float(i % 2)] for i in range(40)])
    options = {"num_trees": 30} if kind is RandomForest else {}
    baseline = kind(samples, smiles, "regression", **options)
    predictions = baseline.fit_predict(y, rows(0, 30), rows(30, 40))
    assert np.abs(predictions - y[30:]).max() < 2.5
    classes = kind(samples, smiles, "classification", **options).fit_predict(y[:, 1:], rows(0, 30), rows(30, 40))
    assert ((classes > 0.5) == y[30:, 1:]).all() and classes.min() >= 0 and classes.max() <= 1


def test_forest_repeats(alcohols):
    samples, smiles = alcohols
    y = np.random.default_rng(0).normal(size=(40, 1))
    a, b, c = (
        RandomForest(samples, smiles, "regression", seed, num_trees=5).fit_predict(y, rows(0, 30), rows(30, 40))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_gaps_constants_and_empty_targets(alcohols, task):
    """A gap in one target; a target with one value only; a target that no training row has."""
    samples, smiles = alcohols
    y = np.tile(np.array([[0.0], [1.0]]), (20, 3))
    y[5, 0] = np.nan
    y[:30, 1] = 1.0
    y[:30, 2] = np.nan
    for baseline in baselines_for(samples, smiles, task, num_trees=5):
        predictions = baseline.fit_predict(y, rows(0, 30), rows(30, 40))
        assert np.isfinite(predictions).all(), baseline.name
        assert (predictions[:, 1] == 1).all() and (predictions[:, 2] == 0).all()


def test_predictions_use_training_rows_alone(alcohols):
    samples, smiles = alcohols
    y = np.random.default_rng(0).normal(size=(40, 1))
    other = y.copy()
    other[30:] = 99.0
    for baseline in baselines_for(samples, smiles, "regression", num_trees=5):
        a, b = (baseline.fit_predict(values, rows(0, 30), rows(30, 40)) for values in (y, other))
        assert np.array_equal(a, b), baseline.name


def test_which_baselines_there_are(alcohols, waters):
    samples, smiles = alcohols
    names = [b.name for b in baselines_for(samples, smiles, "regression", num_trees=2)]
    assert names == ["mean", "linear_composition", "random_forest", "nearest_neighbors"]
    names = [b.name for b in baselines_for(waters[0], [""] * 60, "energy")]
    assert names == ["mean", "linear_composition", "nearest_neighbors"]
    assert len({b.description for b in baselines_for(samples, smiles, "regression", num_trees=2)}) == 4
    with pytest.raises(ShapeError, match="smiles: got 3 rows"):
        baselines_for(samples, smiles[:3], "regression")
