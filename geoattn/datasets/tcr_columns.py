"""Which columns of a table of receptors mean what: the usual formats, and the user's own names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from geoattn.datasets.headers import named_column, plain_name, usual_column
from geoattn.errors import InputError

Anchors = Literal["yes", "no", "none"]
"""Does a CDR3 stand with the conserved C and F or W? ``"none"`` takes it as it is, without a check."""
BETA = ("trb", "beta", "tcrb", "β")
OTHER_CHAINS = ("tra", "trg", "trd", "alpha", "gamma", "delta", "tcra", "tcrg", "tcrd", "α", "γ", "δ")
CHAIN_COLUMNS = ("chain", "locus", "gene", "chain_type")
"""Where tables say of which chain a row is, if they do."""
HUMAN = ("homosapiens", "homo sapiens", "human", "9606")
TRUE = ("t", "true", "1", "")  # AIRR leaves the cell empty where it is not known


@dataclass(frozen=True)
class TCRColumns:
    """Names of columns; None looks for the usual names of the formats.

    Attributes:
        tcr: CDR3 of the beta chain.
        v, j: genes.
        full: sequence of the variable domain.
        epitope: amino acids of the peptide.
        smiles: the peptide as a molecule.
        label: 1 binds, 0 does not.
        id: name of the pair.
        study: where it was measured.
        required: further columns that must be there and are kept (the column of the split).
    """

    tcr: str | None = None
    v: str | None = None
    j: str | None = None
    full: str | None = None
    epitope: str | None = None
    smiles: str | None = None
    label: str | None = None
    id: str | None = None
    study: str | None = None
    required: Sequence[str] = ()


@dataclass(frozen=True)
class Format:
    """A kind of table.

    Attributes:
        name: for notes and messages.
        marks: columns by which it is known (lower case).
        anchors: what its own CDR3 columns hold, most wanted first; None where the format does not say.
        columns: its names of the other roles, most wanted first.
        must: columns in which only these values can be used (lower case): chain, species, productive.
        binders: every row is a measured binder.
    """

    name: str
    marks: tuple[str, ...]
    anchors: Mapping[str, Anchors | None]
    columns: Mapping[str, tuple[str, ...]]
    must: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    binders: bool = False


AIRR_COLUMNS: dict[str, Anchors] = {"junction_aa": "yes", "cdr3_aa": "no"}
FORMATS = (
    Format(
        "VDJdb",
        ("cdr3.beta", "antigen.epitope"),
        {"cdr3.beta": "yes"},
        {"v": ("v.beta",), "j": ("j.beta",), "epitope": ("antigen.epitope",), "study": ("reference.id",)},
        {"species": HUMAN},
        binders=True,
    ),
    Format(
        "VDJdb",
        ("gene", "cdr3", "antigen.epitope"),
        {"cdr3": "yes"},
        {"v": ("v.segm",), "j": ("j.segm",), "epitope": ("antigen.epitope",), "study": ("reference.id",)},
        {"gene": BETA, "species": HUMAN},
        binders=True,
    ),
    Format(
        "VDJdb",
        ("gene", "cdr3", "v", "j", "epitope"),
        {"cdr3": "yes"},
        {"v": ("v",), "j": ("j",), "epitope": ("epitope",), "study": ("reference",)},
        {"gene": BETA, "species": HUMAN},
        binders=True,
    ),
    Format(
        "IEDB",
        ("chain 2 cdr3 curated",),
        # calculated ones are cut by IMGT's definition, curated ones are as their article has them
        {"chain 2 cdr3 calculated": "no", "chain 2 cdr3 curated": None},
        {
            "v": ("chain 2 calculated v gene", "calculated chain 2 v gene"),
            "j": ("chain 2 calculated j gene", "calculated chain 2 j gene"),
            "epitope": ("epitope name", "description"),
            "study": ("reference name", "receptor reference name", "reference iri", "reference iedb iri"),
        },
        {"chain 2 type": BETA},
        binders=True,
    ),
    Format(
        "McPAS-TCR",
        ("cdr3.beta.aa", "epitope.peptide"),
        {"cdr3.beta.aa": "yes"},
        {"v": ("trbv",), "j": ("trbj",), "epitope": ("epitope.peptide",), "study": ("pubmed.id",)},
        {"species": HUMAN},
        binders=True,
    ),
    Format(
        "10x",
        ("barcode", "contig_id", "chain", "cdr3"),
        {"cdr3": "yes"},
        {"v": ("v_gene",), "j": ("j_gene",), "id": ("contig_id",)},
        {"chain": BETA, "productive": TRUE},
    ),
    *(
        Format(
            "AIRR",
            ("v_call", name),
            {name: anchors},
            {"v": ("v_call",), "j": ("j_call",), "id": ("sequence_id",), "study": ("study_id",)},
            {"locus": BETA, "productive": TRUE},
        )
        for name, anchors in AIRR_COLUMNS.items()
    ),
)
USUAL: dict[str, tuple[str, ...]] = {
    "tcr": ("cdr3", "cdr3b", "cdr3_beta", "cdr3.beta", "cdr3_b_aa", "cdr3b_aa", "cdr3_aa", "junction_aa", "tcr"),
    "v": ("v", "v_gene", "trbv", "v_call", "v_beta", "vb", "v.beta"),
    "j": ("j", "j_gene", "trbj", "j_call", "j_beta", "jb", "j.beta"),
    "full": ("full", "full_sequence", "full_tcr", "tcr_full"),
    "epitope": ("epitope", "peptide", "epitope_aa", "epitope_sequence", "antigen_epitope"),
    "smiles": ("smiles", "epitope_smiles"),
    "label": ("label", "binding", "binder", "bind", "y"),
    "id": ("id", "pair_id", "name"),
    "study": ("study", "study_id", "reference", "pubmed_id", "pmid"),
}
PLAIN = Format("table", (), {"junction_aa": "yes"}, {})


@dataclass(frozen=True)
class Layout:
    """The columns of one file.

    Attributes:
        format: what the header looks like.
        index: number of the column of each role that the file has.
        name: its name.
        extra: number of each required column, by its name.
        must: (number, name, values that can be used) of the columns that decide whether a row can be used.
        anchors: what the format says of the CDR3 column; None if it says nothing.
        chain: number of the column that says which chain a row is of; None if there is none.
    """

    format: Format
    index: Mapping[str, int]
    name: Mapping[str, str]
    extra: Mapping[str, int]
    must: Sequence[tuple[int, str, tuple[str, ...]]]
    anchors: Anchors | None
    chain: int | None = None


def find_layout(path: Path, header: list[str], columns: TCRColumns, needed: Sequence[str]) -> Layout:
    """Find the columns of a header.

    Args:
        path: for messages.
        header: names as they stand.
        columns: names by the user, which go first.
        needed: roles without which the file cannot be used.

    Raises:
        InputError: a named column or a needed one is not there, or stands twice.
    """
    known = {plain_name(name): name for name in reversed(header)}
    form = next((form for form in FORMATS if all(plain_name(mark) in known for mark in form.marks)), PLAIN)
    named = {part.name: getattr(columns, part.name) for part in fields(columns) if part.name != "required"}
    extra = {name: header.index(named_column(path, header, name)) for name in columns.required}
    chosen = {}
    for role in USUAL:
        usual = tuple(form.anchors) if role == "tcr" else form.columns.get(role, ())
        if named[role]:
            chosen[role] = named_column(path, header, named[role])
        elif found := usual_column(path, header, (*usual, *USUAL[role]), f"--{role}-column"):
            chosen[role] = found
    _check(path, header, chosen, needed)
    of_must = {known[plain_name(name)]: values for name, values in form.must.items() if plain_name(name) in known}
    must = [(header.index(name), name, values) for name, values in of_must.items()]
    chains = [name for name, values in of_must.items() if values == BETA]
    chains += [known[name] for name in CHAIN_COLUMNS if name in known]
    return Layout(
        format=form,
        index={role: header.index(name) for role, name in chosen.items()},
        name=chosen,
        extra=extra,
        must=must,
        anchors={plain_name(name): said for name, said in form.anchors.items()}.get(plain_name(chosen["tcr"])),
        chain=header.index(chains[0]) if chains else None,
    )


def _check(path: Path, header: list[str], chosen: Mapping[str, str], needed: Sequence[str]) -> None:
    what = {"tcr": "CDR3", "v": "V gene", "j": "J gene", "full": "full sequence", "study": "study", "label": "label"}
    for role in needed:
        if role not in chosen:
            option = f"--{role}-column"
            raise InputError(
                f"{path}: no {what.get(role, role)} column found among {_listed(header)}. Name it with {option}."
            )
    for name in chosen.values():
        if header.count(name) > 1:
            raise InputError(f"{path}: the header names column {name!r} more than once.")


def _listed(names: list[str], at_most: int = 12) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(repr, names[:at_most])) + more
