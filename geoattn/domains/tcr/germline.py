"""The variable domain of a beta chain from its V gene, CDR3 and J gene, with IMGT's germline sequences."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from geoattn._optional import require
from geoattn.domains.records import RecordError

MOTIF_LENGTH = 4
"""A J segment goes on after its conserved F or W as G-X-G: the motif F/W-G-X-G has four residues."""


def full_chain(v: str, j: str, cdr3: str) -> tuple[str, int]:
    """V segment up to the conserved C, CDR3 with its anchors, J segment after the conserved F or W.

    Genes are human TRBV and TRBJ by their exact IMGT names; a name without an allele means ``*01``. Nothing is aligned:
    the CDR3 itself says how it begins and ends, so it stands unchanged in the result.

    Args:
        v: e.g. ``"TRBV19*01"``.
        j: e.g. ``"TRBJ2-7"``.
        cdr3: from the conserved C to F or W.

    Returns:
        The sequence, and the index at which ``cdr3`` begins.

    Raises:
        RecordError: an unknown gene or allele, or one without a conserved residue (most pseudogenes).

    Example:
        >>> sequence, start = full_chain("TRBV19", "TRBJ2-7", "CASSIRSSYEQYF")
        >>> sequence[start - 5 :]
        'TAFYLCASSIRSSYEQYFGPGTRLTVT'
    """
    head, tail = v_segment(v), j_segment(j)
    return head + cdr3 + tail, len(head)


@lru_cache(maxsize=1024)
def v_segment(gene: str) -> str:
    """The V segment before the conserved C that begins the CDR3.

    Raises:
        RecordError: unknown, no protein, or without the conserved C.
    """
    regions = _regions("v", gene, "TRBV")
    framework = regions.get("FR3-IMGT", "")
    if not framework.endswith("C"):
        raise RecordError("v", gene, "its germline sequence has no conserved C, so no chain can be built from it")
    whole = regions["V-REGION"]
    return whole[: whole.rindex(framework) + len(framework) - 1]


@lru_cache(maxsize=256)
def j_segment(gene: str) -> str:
    """The J segment after the conserved F or W that ends the CDR3.

    Raises:
        RecordError: unknown, or without the motif F/W-G-X-G.
    """
    whole = _regions("j", gene, "TRBJ")["J-REGION"]
    return whole[_anchor_place(gene, whole) + 1 :]


@lru_cache(maxsize=256)
def j_anchor(gene: str) -> str:
    """The conserved residue that ends the CDR3 of a J gene: F or W.

    Raises:
        RecordError: unknown, or without the motif F/W-G-X-G.
    """
    whole = _regions("j", gene, "TRBJ")["J-REGION"]
    return whole[_anchor_place(gene, whole)]


def _anchor_place(gene: str, whole: str) -> int:
    for i in range(len(whole) - MOTIF_LENGTH + 1):
        if whole[i] in "FW" and whole[i + 1] == "G" and whole[i + 3] == "G":
            return i
    raise RecordError("j", gene, "its germline sequence lacks the motif F/W-G-X-G, so no chain can be built from it")


def _regions(column: str, gene: str, kind: str) -> dict[str, Any]:
    tidytcells = require("tidytcells", "tcr")
    if not gene.startswith(kind):
        raise RecordError(column, gene, f"not the IMGT name of a human {kind} gene")
    allele = gene if "*" in gene else f"{gene}*01"
    try:
        return tidytcells.tr.get_aa_sequence(symbol=allele)
    except ValueError:
        raise RecordError(column, gene, f"IMGT has no amino-acid sequence of {allele}") from None
