import math

import numpy as np
import pytest

from geoattn.datasets.target_values import choose_targets, read_targets, stated_units, target_value
from geoattn.domains.molecules.records import Record, RecordError
from geoattn.errors import InputError


def records(*fields):
    return [Record(file="a.csv", line=i + 2, fields=f) for i, f in enumerate(fields)]


@pytest.mark.parametrize("cell", [None, "", "  ", "nan", "NaN", "NA", "n/a", "null", "None", float("nan"), np.nan])
def test_gaps(cell):
    assert math.isnan(target_value("y", cell, "regression"))


@pytest.mark.parametrize(
    ("cell", "value"), [("1.5", 1.5), (" -3 ", -3.0), ("1e-3", 1e-3), (np.int64(4), 4.0), (2, 2.0)]
)
def test_numbers(cell, value):
    assert target_value("y", cell, "regression") == value


@pytest.mark.parametrize("cell", ["high", "<0.1", "1,5", "1_000", np.array([1.0, 2.0]), "1 2"])
def test_text_is_no_number(cell):
    with pytest.raises(RecordError, match="not a number. Write a number, or leave the cell empty"):
        target_value("y", cell, "regression")


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", float("inf"), "1e400"])
def test_infinity(cell):
    with pytest.raises(RecordError, match="infinite"):
        target_value("y", cell, "energy")


def test_classes():
    cells = ["0", "1", "1.0", "True", "false", 1, False]
    assert [target_value("y", c, "classification") for c in cells] == [0, 1, 1, 1, 0, 1, 0]
    with pytest.raises(RecordError, match="a class must be 0 or 1"):
        target_value("y", "2", "classification")


def test_missing_key_is_a_gap():
    y = read_targets(Record(fields={"b": "2"}), ["a", "b"], "regression")
    assert math.isnan(y[0]) and y[1] == 2


def test_the_only_column_of_numbers_is_the_target():
    rows = records({"smiles": "C", "y": "1", "note": "x"}, {"smiles": "N", "y": "", "note": "2"})
    assert choose_targets(rows, ["smiles"]) == ["y"]


def test_several_or_no_columns_of_numbers():
    with pytest.raises(InputError, match=r"several columns hold numbers: \['y', 'fold'\]"):
        choose_targets(records({"smiles": "C", "y": "1", "fold": "0"}), ["smiles"])
    with pytest.raises(InputError, match="no column holds numbers"):
        choose_targets(records({"smiles": "C", "y": "low"}), ["smiles"])


def test_units_from_option_or_column():
    assert stated_units(records({"y": 1}), ["y"], "eV") == "eV"
    assert stated_units(records({"y": 1, "Units": "eV"}, {"y": 1, "Units": ""}), ["y"], None) == "eV"
    assert stated_units(records({"y": 1, "dose_unit": "mg"}), ["y"], None) is None


def test_mixed_units_are_refused():
    rows = records({"y": 1, "y_unit": "eV"}, {"y": 23, "y_unit": "kcal/mol"})
    with pytest.raises(InputError, match=r"mixes units: 'eV' \(a.csv:2\), 'kcal/mol' \(a.csv:3\)"):
        stated_units(rows, ["y"], None)
    with pytest.raises(InputError, match="got 'eV', but the file states 'kcal/mol'"):
        stated_units(rows[1:], ["y"], "eV")
