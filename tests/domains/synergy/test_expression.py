import json

import numpy as np
import pytest

from geoattn.domains.synergy.expression import Expression, apply_expression, check_scale, fit_expression, kind_of
from geoattn.errors import InputError


def table(values, genes=None, cells=None):
    values = np.asarray(values, dtype=np.float64)
    genes = genes or [f"GEN{i}" for i in range(values.shape[1])]
    return Expression(cells or [f"C{i}" for i in range(len(values))], genes, values, file="e.csv")


@pytest.fixture
def tpm():
    return table(np.random.default_rng(0).gamma(0.5, 40, size=(8, 30)))


def test_standardised_on_training_cells_alone(tpm):
    train = ["C0", "C1", "C2", "C3", "C4"]
    fitted = json.loads(json.dumps(fit_expression(tpm, train)))
    values, notes = apply_expression(fitted, tpm)
    np.testing.assert_allclose(values[:5].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(values[:5].std(axis=0), 1, atol=1e-5)
    expected = np.log2(1 + tpm.values)
    np.testing.assert_allclose(
        values[7], (expected[7] - expected[:5].mean(0)) / expected[:5].std(0), rtol=1e-4, atol=1e-5
    )
    changed = tpm.values.copy()
    changed[5:] = 3 * changed[5:] + 1
    assert fit_expression(table(changed), train) == fitted  # the other cells leave no trace
    assert not notes


def test_genes_are_those_that_vary_most_in_training(tpm):
    values = np.tile(np.linspace(1, 200, 8)[:, None], (1, 3)) ** [[0.0, 0.5, 1.0]]
    values[5:, 0] = 1000  # varies among the others only
    fitted = fit_expression(table(values), ["C0", "C1", "C2", "C3"], num_genes=1)
    assert fitted["genes"] == ["GEN2"]
    assert fit_expression(table(values), ["C0", "C1", "C2", "C3"])["genes"] == ["GEN1", "GEN2"]


def test_missing_genes_get_the_training_mean(tpm):
    fitted = fit_expression(tpm, tpm.cells)
    order = list(range(29, 0, -1))
    other = table(tpm.values[:, order], [tpm.genes[i] for i in order])
    other.values[0, 0] = np.nan
    values, notes = apply_expression(fitted, other)
    whole, _ = apply_expression(fitted, tpm)
    assert (values[:, 0] == 0).all() and values[0, 29] == 0
    np.testing.assert_array_equal(values[1:, 1:], whole[1:, 1:])
    assert "1 of 30 genes are not in e.csv and got the training mean: GEN0." in notes[0] and "1 gaps" in notes[1]
    with pytest.raises(InputError, match="20 of the 30 genes of the model are missing"):
        apply_expression(fitted, table(tpm.values[:, :10]))


def test_the_scale_is_asked_for(tpm):
    log2 = np.log2(1 + tpm.values)
    zscore = (log2 - log2.mean(0)) / log2.std(0)
    assert check_scale(tpm.values, None, "e.csv") == "tpm"
    for values, seen in (
        (log2, "already transformed"),
        (zscore, "standardised"),
        (np.round(tpm.values), "like read counts"),
    ):
        with pytest.raises(InputError, match=f"looks {seen} .*values from"):
            check_scale(values, None, "e.csv")
    with pytest.raises(InputError, match="Convert counts to TPM; or say tpm .*expression_scale="):
        check_scale(np.round(tpm.values), None, "e.csv")
    assert check_scale(log2, "log2", "e.csv") == "log2" and check_scale(zscore, "zscore", "e.csv") == "zscore"
    for values, said in ((zscore, "tpm"), (tpm.values, "log2"), (zscore, "log2"), (log2, "zscore")):
        with pytest.raises(InputError, match=f"expression_scale={said}, but"):
            check_scale(values, said, "e.csv")
    with pytest.raises(InputError, match="got 'tmp'. Did you mean 'tpm'"):
        check_scale(log2, "tmp", "e.csv")


def test_a_table_of_another_scale_or_kind_is_refused(tpm):
    fitted = fit_expression(tpm, tpm.cells)
    log2 = table(np.log2(1 + tpm.values))
    np.testing.assert_allclose(apply_expression(fitted, log2, "log2")[0], apply_expression(fitted, tpm)[0], atol=1e-4)
    with pytest.raises(InputError, match="cannot be compared"):
        apply_expression(fitted, table(log2.values - 3), "zscore")
    ensembl = table(tpm.values, [f"ENSG{i:011d}" for i in range(30)])
    with pytest.raises(InputError, match="named by Ensembl ids .*trained with symbols"):
        apply_expression(fitted, ensembl)


def test_kinds_of_gene_ids():
    symbols = [f"GEN{i}" for i in range(40)]
    assert kind_of(symbols, "e.csv") == ("symbol", "")
    kind, said = kind_of([*symbols, "5-Sep", "ENSG00000141510"], "e.csv")
    assert kind == "symbol" and "2 of 42 genes" in said and "spreadsheet" in said
    with pytest.raises(InputError, match="named in several ways: 40 symbols .*20 Ensembl"):
        kind_of([*symbols, *(f"ENSG{i:011d}.3" for i in range(20))], "e.csv")
    with pytest.raises(InputError, match="'7157' is a number, like an Entrez id"):
        kind_of(["7157", "672"], "e.csv")
