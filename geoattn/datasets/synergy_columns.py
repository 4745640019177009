"""Which columns of a table of drug pairs mean what: the usual names, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from geoattn.datasets.headers import named_column, plain_name, usual_column
from geoattn.errors import InputError


@dataclass(frozen=True)
class SynergyColumns:
    """Names of columns; None looks for the usual names.

    Attributes:
        drug_a, drug_b: names of the drugs.
        cell_line: name of the cell line.
        score: synergy score, or the label if labels are read.
        tissue: of the cell line.
        smiles_a, smiles_b: the molecules, if there is no table of drugs.
        id: name of the row.
        dose_a, dose_b, response, block: for scores that are computed from responses.
        required: further columns that must be there and are kept (the column of the split).
    """

    drug_a: str | None = None
    drug_b: str | None = None
    cell_line: str | None = None
    score: str | None = None
    tissue: str | None = None
    smiles_a: str | None = None
    smiles_b: str | None = None
    id: str | None = None
    dose_a: str | None = None
    dose_b: str | None = None
    response: str | None = None
    block: str | None = None
    required: Sequence[str] = ()


USUAL: dict[str, tuple[str, ...]] = {
    "drug_a": ("drug_a", "drug1", "drug_1", "drug_row", "drug_name_a", "drug1_id", "druga"),
    "drug_b": ("drug_b", "drug2", "drug_2", "drug_col", "drug_name_b", "drug2_id", "drugb"),
    "cell_line": ("cell_line", "cell", "cell_line_name", "cellline", "cell_name", "cellline_id", "sample"),
    "tissue": ("tissue", "tissue_name", "tissue_type", "lineage"),
    "smiles_a": ("smiles_a", "smiles1", "smiles_1", "drug1_smiles", "drug_a_smiles", "smiles_row"),
    "smiles_b": ("smiles_b", "smiles2", "smiles_2", "drug2_smiles", "drug_b_smiles", "smiles_col"),
    "id": ("id", "combination_id", "block_id"),
    "dose_a": ("dose_a", "dose1", "dose_1", "conc_a", "conc1", "conc_r", "concentration_a"),
    "dose_b": ("dose_b", "dose2", "dose_2", "conc_b", "conc2", "conc_c", "concentration_b"),
    "response": ("response", "inhibition", "viability", "effect"),
    "block": ("block", "plate", "block_id"),
}
USUAL_SCORES = ("score", "synergy", "synergy_score", "loewe", "bliss", "hsa", "zip", "comboscore")
USUAL_LABELS = ("label", "synergistic", "class", "y")
OPTIONS = {"cell_line": "cell_column"}
"""Options whose name is not that of the role."""


@dataclass(frozen=True)
class Layout:
    """The columns of one file.

    Attributes:
        index: number of the column of each role that the file has.
        name: its name.
        extra: number of each required column, by its name.
    """

    index: Mapping[str, int]
    name: Mapping[str, str]
    extra: Mapping[str, int]


def find_layout(
    path: Path, header: list[str], columns: SynergyColumns, needed: Sequence[str], *, labels: bool = False
) -> Layout:
    """Find the columns of a header.

    Args:
        path: for messages.
        header: names as they stand.
        columns: names by the user, which go first.
        needed: roles without which the file cannot be used.
        labels: the role ``score`` is a label.

    Raises:
        InputError: a named column or a needed one is not there, or stands twice; several columns look like scores.
    """
    named = {part.name: getattr(columns, part.name) for part in fields(columns) if part.name != "required"}
    extra = {name: header.index(named_column(path, header, name)) for name in columns.required}
    chosen: dict[str, str] = {}
    for role, usual in USUAL.items():
        if named[role]:
            chosen[role] = named_column(path, header, named[role])
        elif found := usual_column(path, header, usual, _option(role)):
            chosen[role] = found
    score = named_column(path, header, named["score"]) if named["score"] else _score(path, header, labels, needed)
    if score is not None:
        chosen["score"] = score
    for role in needed:
        if role not in chosen:
            what = "label" if role == "score" and labels else role
            step = ", or give --data.positive to make labels of scores" if what == "label" else ""
            raise InputError(
                f"{path}: no {what} column found among {_listed(header)}. Name it with {_option(role)}{step}."
            )
    for name in chosen.values():
        if header.count(name) > 1:
            raise InputError(f"{path}: the header names column {name!r} more than once.")
    for one, other in (("drug_a", "drug_b"), ("smiles_a", "smiles_b"), ("dose_a", "dose_b")):
        if one in chosen and chosen[one] == chosen.get(other):
            raise InputError(f"{path}: column {chosen[one]!r} cannot be both {one} and {other}.")
    return Layout(
        index={role: header.index(name) for role, name in chosen.items()},
        name=chosen,
        extra=extra,
    )


def _option(role: str) -> str:
    return "--" + OPTIONS.get(role, f"{role}_column").replace("_", "-")


def _score(path: Path, header: Sequence[str], labels: bool, needed: Sequence[str]) -> str | None:
    """The column of scores; models of synergy disagree, so that of several none is chosen."""
    names = USUAL_LABELS if labels else USUAL_SCORES
    found = [one for name in names for one in dict.fromkeys(header) if plain_name(one) == name]
    if len(found) > 1 and "score" in needed:
        raise InputError(f"{path}: {_listed(found)} could all be what is learned. Choose one with --score-column.")
    return found[0] if len(found) == 1 else None


def _listed(names: Sequence[str], at_most: int = 12) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(repr, names[:at_most])) + more
