"""Gene expression of cell lines: its scale, the genes that are used, and a standardisation fitted to training cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from geoattn.errors import InputError, nearest_hint

Scale = Literal["tpm", "log2", "zscore"]
SCALES = ("tpm", "log2", "zscore")
LARGEST_LOG2 = 20.0
"""TPM of a cell sum to a million, so that log2(1 + TPM) stays below this."""
LOG2_HINT = "log2 for log2(1 + TPM), zscore for standardised values"
ENSEMBL = re.compile(r"ENS[A-Z]*G\d{11}")
MAX_MISSING = 0.5
MAX_OTHER = 0.05
_KINDS = {
    "ensembl": "Ensembl ids",
    "symbol": "symbols",
    "number": "numbers",
    "date": "dates that a spreadsheet made of symbols",
}


@dataclass(frozen=True)
class Expression:
    """A table of expression.

    Attributes:
        cells: names of the C cell lines.
        genes: ids of the G genes.
        values: ``[C, G]`` float64 as in the file; NaN is a gap.
        tissue: cell line -> tissue, where the file says it.
        file: for messages.
        notes: sentences about what was done in reading.
    """

    cells: list[str]
    genes: list[str]
    values: np.ndarray
    tissue: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    notes: list[str] = field(default_factory=list)


def gene_kind(gene: str) -> str:
    """``"ensembl"``, ``"number"`` (Entrez), ``"date"`` (a symbol that a spreadsheet changed) or ``"symbol"``.

    >>> [gene_kind(gene) for gene in ("ENSG00000141510", "TP53", "7157", "1-Mar")]
    ['ensembl', 'symbol', 'number', 'date']
    """
    if ENSEMBL.fullmatch(gene.partition(".")[0]):
        return "ensembl"
    if re.fullmatch(r"\d+(\.0)?", gene):
        return "number"
    if re.fullmatch(r"\d{1,2}-(Mar|Sep|Dec)", gene, re.IGNORECASE):
        return "date"
    return "symbol"


def kind_of(genes: Sequence[str], file: str) -> tuple[str, str]:
    """The kind of ``genes``, ``"ensembl"`` or ``"symbol"``, and a note about a few of another kind (or empty).

    Public tables of symbols hold some genes without one by their Ensembl id, and some dates.

    Raises:
        InputError: more than a twentieth of the ids are of another kind.
    """
    found: dict[str, list[str]] = {}
    for gene in genes:
        found.setdefault(gene_kind(gene), []).append(gene)
    kind = max(found, key=lambda kind: len(found[kind]), default="symbol")
    others = [gene for other, odd in found.items() if other != kind for gene in odd]
    if kind == "number":
        raise InputError(
            f"{file}: gene {found['number'][0]!r} is a number, like an Entrez id. Name genes by symbol (TP53) or by "
            "Ensembl id (ENSG00000141510)."
        )
    if kind == "date" or len(others) > MAX_OTHER * len(genes):
        counts = ", ".join(f"{len(odd)} {_KINDS[other]} ({odd[0]})" for other, odd in found.items())
        raise InputError(
            f"{file}: genes are named in several ways: {counts}. Name all genes alike, or remove columns that are no "
            "genes."
        )
    if not others:
        return kind, ""
    what = " or ".join(_KINDS[other] for other in found if other != kind)
    said = f"{len(others)} of {len(genes)} genes of {file} are named by {what}, not by {_KINDS[kind]}: "
    return kind, f"{said}{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}. They are used under these names."


def looks_like(values: np.ndarray) -> tuple[str, str]:
    """The scale that values seem to have (one of ``SCALES``, or ``"counts"``), and what was seen."""
    known = values[np.isfinite(values)]
    if not known.size:
        raise InputError("expression: there is no number in the table.")
    low, high = float(known.min()), float(known.max())
    seen = f"values from {low:.4g} to {high:.4g}"
    if low < 0:
        return "zscore", f"{seen}, {100 * float((known < 0).mean()):.0f} % of them negative"
    if high <= LARGEST_LOG2:
        return "log2", f"{seen}: none above {LARGEST_LOG2:g}, which log2(1 + TPM) cannot exceed"
    if (known == np.round(known)).all():
        return "counts", f"{seen}, all of them whole numbers"
    return "tpm", seen


def check_scale(values: np.ndarray, scale: Scale | None, file: str) -> Scale:
    """The scale of ``values``; what a user says is checked, and what looks otherwise than TPM is asked for.

    Raises:
        InputError: nobody said that the values are no TPM, or they cannot be on the scale that was said.
    """
    if scale is not None and scale not in SCALES:
        raise InputError(f"expression_scale: got {scale!r}. {nearest_hint(scale, SCALES)}")
    looks, seen = looks_like(values)
    if scale is None and looks != "tpm":
        said = {"log2": "already transformed", "zscore": "standardised", "counts": "like read counts"}[looks]
        advice = "Convert counts to TPM" if looks == "counts" else f"Say the scale: {LOG2_HINT}"
        raise InputError(
            f"{file}: the expression is expected in TPM, but looks {said} ({seen}). {advice}; or say tpm if they are "
            "TPM after all. The scale is said by --expression-scale, from Python by expression_scale=."
        )
    impossible = {"tpm": ("zscore",), "log2": ("zscore", "tpm", "counts"), "zscore": ("tpm", "log2", "counts")}
    if scale is not None and looks in impossible[scale]:
        raise InputError(
            f"{file}: expression_scale={scale}, but the table cannot be on it: {seen}. Scales: tpm, {LOG2_HINT}."
        )
    return scale or "tpm"


def fit_expression(
    expression: Expression, train: Sequence[str], scale: Scale | None = None, num_genes: int | None = None
) -> dict[str, Any]:
    """What `apply_expression` needs, from the training cells alone.

    Args:
        expression: the table; cells that are not in ``train`` only take part in the check of the scale.
        train: names of the training cells.
        scale: of the table; TPM become log2(1 + TPM).
        num_genes: keep so many genes, those of the largest variance among the training cells after the transformation;
            all that vary if left out.

    Returns:
        JSON values: genes, their kind, scale, mean and sd per gene.

    Raises:
        InputError: as `check_scale`; no training cell; no gene that varies.
    """
    scale = check_scale(expression.values, scale, expression.file)
    place = {name: row for row, name in enumerate(expression.cells)}
    rows = [place[name] for name in dict.fromkeys(train)]
    if not rows:
        raise InputError("expression: no training cell.")
    if num_genes is not None and num_genes < 1:
        raise InputError(f"genes: got {num_genes}, expected at least 1.")
    values = _transformed(expression.values[rows], scale)
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    sd = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count)
    varying = np.flatnonzero(sd > 1e-9)
    if not len(varying):
        raise InputError(f"{expression.file}: no gene differs among the {len(rows)} training cells.")
    chosen = np.sort(varying[np.argsort(-sd[varying], kind="stable")[:num_genes]])
    return {
        "genes": [expression.genes[i] for i in chosen],
        "kind": kind_of(expression.genes, expression.file)[0],
        "scale": scale,
        "mean": mean[chosen].tolist(),
        "sd": sd[chosen].tolist(),
    }


def apply_expression(
    preprocess: Mapping[str, Any], expression: Expression, scale: Scale | None = None
) -> tuple[np.ndarray, list[str]]:
    """Standardised expression ``[C, G]`` float32 of the cells of a table, in the order and of the genes of training.

    A gene that the table lacks, and a gap, get the training mean, which is 0 after standardisation.

    Args:
        preprocess: of `fit_expression`.
        expression: a table, of other cells or of the same.
        scale: of this table; that of training if left out, which must be said again if it is tpm and the values do not
            look like it.

    Returns:
        The values, and notes about genes that were missing.

    Raises:
        InputError: gene ids of another kind, more than half of the genes missing, or values of another scale.
    """
    kind, _ = kind_of(expression.genes, expression.file)
    genes: list[str] = list(preprocess["genes"])
    if kind != preprocess["kind"]:
        raise InputError(
            f"{expression.file}: genes are named by {_KINDS[kind]} ({expression.genes[0]}), but the model was trained "
            f"with {_KINDS[preprocess['kind']]} ({genes[0]}). Rename them."
        )
    if preprocess["scale"] != "tpm":  # what looks otherwise than TPM is refused until somebody says that it is TPM
        scale = scale or preprocess["scale"]
    scale = check_scale(expression.values, scale, expression.file)
    if (scale == "zscore") != (preprocess["scale"] == "zscore"):
        raise InputError(
            f"{expression.file}: the scale is {scale}, that of training was {preprocess['scale']}: standardised values "
            "and TPM cannot be compared."
        )
    place = {gene: column for column, gene in enumerate(expression.genes)}
    missing = [gene for gene in genes if gene not in place]
    if len(missing) > MAX_MISSING * len(genes):
        raise InputError(
            f"{expression.file}: {len(missing)} of the {len(genes)} genes of the model are missing ({missing[0]}, ...)."
        )
    values = np.full((len(expression.cells), len(genes)), np.nan)
    found = [i for i, gene in enumerate(genes) if gene in place]
    values[:, found] = _transformed(expression.values[:, [place[genes[i]] for i in found]], scale)
    gaps = int(np.isnan(values[:, found]).sum())
    standard = (values - np.array(preprocess["mean"])) / np.array(preprocess["sd"])
    notes = []
    if missing:
        notes.append(
            f"{len(missing)} of {len(genes)} genes are not in {expression.file} and got the training mean: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        )
    if gaps:
        notes.append(f"{gaps} gaps in {expression.file} got the mean of the training cells.")
    return np.nan_to_num(standard, nan=0.0).astype(np.float32), notes


def _transformed(values: np.ndarray, scale: str) -> np.ndarray:
    return np.log2(1 + values) if scale == "tpm" else values
