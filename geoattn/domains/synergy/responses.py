r"""Synergy scores from doses and responses: how much a pair inhibits beyond what its drugs alone lead to expect.

With the fraction :math:`f` of cells inhibited (0: as without drug, 1: no cell is left), at each pair of doses

.. math:: \mathrm{HSA} = f_{ab} - \max(f_a, f_b), \qquad \mathrm{Bliss} = f_{ab} - (f_a + f_b - f_a f_b)

and the score of a pair in a cell line is 100 times the mean over its pairs of doses: percentage points, **positive for
synergy**. Papers: Berenbaum, Pharmacol. Rev. 1989, 41, 93 (HSA, "highest single agent"); Bliss, Ann. Appl. Biol. 1939,
26, 585. Loewe and ZIP need fitted curves of at least three doses; they are read as columns of scores, not made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

ResponseScale = Literal["inhibition", "inhibition_percent", "viability", "viability_percent"]
RESPONSE_SCALES = ("inhibition", "inhibition_percent", "viability", "viability_percent")
ENOUGH = 5
"""Series of doses that tell whether inhibition grows with dose."""
FARTHEST = 3.0
"""A fraction beyond this in size is no fraction; noise of real assays goes below 0 and beyond 1, but not so far."""


@dataclass(frozen=True)
class Response:
    """One well, or the mean of several.

    Attributes:
        drug_a, drug_b: names; ``drug_b`` may be empty where its dose is 0.
        cell: name of the cell line.
        dose_a, dose_b: in any unit that is the same in all rows of a drug; 0 for none.
        value: the response.
        block: names the plate whose single agents belong to a pair; empty where they are shared by the whole file.
        file, line: where it stands.
        row: its cells as they stand.
    """

    drug_a: str
    drug_b: str
    cell: str
    dose_a: float
    dose_b: float
    value: float
    block: str = ""
    file: str = ""
    line: int = 0
    row: Sequence[str] = ()


@dataclass(frozen=True)
class Excess:
    """What a pair does in a cell line beyond its drugs alone.

    Attributes:
        first: the first of its rows with both drugs.
        hsa, bliss: in percentage points, positive for synergy.
        num_doses: pairs of doses that the means are over.
    """

    first: Response
    hsa: float
    bliss: float
    num_doses: int


def inhibition(values: np.ndarray, scale: ResponseScale) -> np.ndarray:
    """Fractional inhibition from values on ``scale``.

    >>> inhibition(np.array([100.0, 25.0]), "viability_percent")
    array([0.  , 0.75])

    Raises:
        InputError: an unknown scale, or values that are far from any fraction on it.
    """
    if scale not in RESPONSE_SCALES:
        raise InputError(f"response_scale: got {scale!r}. {nearest_hint(scale, RESPONSE_SCALES)}")
    values = np.asarray(values, dtype=np.float64)
    fraction = values / 100 if scale.endswith("percent") else values
    if fraction.size and np.abs(fraction).max() > FARTHEST:
        worst = values[np.abs(fraction).argmax()]
        raise InputError(
            f"response_scale={scale}: a response is {worst:g}, which lies far outside this scale. Scales: "
            f"{', '.join(RESPONSE_SCALES)}."
        )
    if scale.endswith("percent") and len(fraction) >= 10 and np.abs(fraction).max() <= 0.03:
        raise InputError(
            f"response_scale={scale}: no response is beyond 3 per cent, they look like fractions. Scales: "
            f"{', '.join(RESPONSE_SCALES)}."
        )
    return 1 - fraction if scale.startswith("viability") else fraction


def excess(rows: Iterable[Response], scale: ResponseScale) -> tuple[list[Excess], list[tuple[Response, RecordError]]]:
    """HSA and Bliss of each pair and cell line, with single agents at the same doses; replicates are averaged.

    Args:
        rows: with one drug (the other dose is 0) and with both.
        scale: of the responses.

    Returns:
        One `Excess` per unordered pair, cell line and block, in order of first appearance; and the rows of pairs whose
        single agents are not there, with the reason.

    Raises:
        InputError: no row with both drugs; values that are not on the scale; viability that is called inhibition.
    """
    rows = list(rows)
    fractions = inhibition(np.array([row.value for row in rows]), scale)
    single: dict[tuple[str, str, str, float], list[float]] = {}
    both: dict[tuple[str, str, str, str], dict[tuple[float, float], list[float]]] = {}
    first: dict[tuple[str, str, str, str], Response] = {}
    without_drug: list[float] = []
    for row, fraction in zip(rows, fractions.tolist(), strict=True):
        if row.dose_a > 0 and row.dose_b > 0:
            swap = row.drug_a > row.drug_b
            one, other = (row.drug_b, row.drug_a) if swap else (row.drug_a, row.drug_b)
            doses = (row.dose_b, row.dose_a) if swap else (row.dose_a, row.dose_b)
            key = (row.block, row.cell, one, other)
            first.setdefault(key, row)
            both.setdefault(key, {}).setdefault(doses, []).append(fraction)
        elif row.dose_a > 0 or row.dose_b > 0:
            drug, dose = (row.drug_a, row.dose_a) if row.dose_a > 0 else (row.drug_b, row.dose_b)
            single.setdefault((row.block, row.cell, drug, dose), []).append(fraction)
        else:
            without_drug.append(fraction)
    if not both:
        raise InputError("responses: no row has a dose of both drugs.")
    _check_without_drug(without_drug, scale)
    _check_direction(single, scale)
    alone = {key: float(np.mean(found)) for key, found in single.items()}
    scores: list[Excess] = []
    without: list[tuple[Response, RecordError]] = []
    for key, found in both.items():
        try:
            scores.append(_scores(first[key], key, found, alone))
        except RecordError as error:
            without.append((first[key], error))
    return scores, without


def _scores(
    first: Response,
    key: tuple[str, str, str, str],
    found: Mapping[tuple[float, float], Sequence[float]],
    alone: Mapping[tuple[str, str, str, float], float],
) -> Excess:
    block, cell, one, other = key
    hsa, bliss = [], []
    for (dose, other_dose), values in found.items():
        f_a = _alone(alone, (block, cell, one, dose))
        f_b = _alone(alone, (block, cell, other, other_dose))
        together = float(np.mean(values))
        hsa.append(together - max(f_a, f_b))
        bliss.append(together - (f_a + f_b - f_a * f_b))
    return Excess(first, 100 * float(np.mean(hsa)), 100 * float(np.mean(bliss)), len(hsa))


def _alone(alone: Mapping[tuple[str, str, str, float], float], key: tuple[str, str, str, float]) -> float:
    if key not in alone:
        _, cell, drug, dose = key
        doses = sorted(other[3] for other in alone if other[:3] == key[:3])
        known = f"it has {', '.join(f'{d:g}' for d in doses)}" if doses else "it has no row alone in this cell line"
        raise RecordError("dose", f"{dose:g}", f"no row has {drug!r} alone at this dose in {cell!r}; {known}")
    return alone[key]


def direction_note(rows: Iterable[Response], scale: ResponseScale) -> str:
    """What to say where nothing in the rows tells inhibition from viability; empty where `excess` could check it."""
    doses: dict[tuple[str, str, str], set[float]] = {}
    for row in rows:
        if row.dose_a == row.dose_b == 0:
            return ""
        if row.dose_a == 0 or row.dose_b == 0:
            drug, dose = (row.drug_a, row.dose_a) if row.dose_a > 0 else (row.drug_b, row.dose_b)
            doses.setdefault((row.block, row.cell, drug), set()).add(dose)
    if sum(len(found) > 1 for found in doses.values()) >= ENOUGH:
        return ""
    return (
        f"That the responses are {scale}, not {_other(scale)}, could not be checked: there is no well without drug, "
        f"and there are fewer than {ENOUGH} drugs alone at several doses. The wrong one turns the scores around."
    )


def _other(scale: str) -> str:
    """viability for inhibition, and the other way round, on the same scale."""
    if scale.startswith("viability"):
        return scale.replace("viability", "inhibition")
    return scale.replace("inhibition", "viability")


def _check_without_drug(fractions: Sequence[float], scale: str) -> None:
    """Wells without drug are inhibited by nothing: a median near 1 is viability that is called inhibition."""
    if fractions and np.median(fractions) > 0.5:
        raise InputError(
            f"response_scale={scale}: in {len(fractions)} wells without drug (both doses 0) the median inhibition "
            f"would be {100 * float(np.median(fractions)):.0f} %. Is it {_other(scale)}?"
        )


def _check_direction(single: Mapping[tuple[str, str, str, float], Sequence[float]], scale: str) -> None:
    """Inhibition grows with dose in most drugs; where it shrinks in most, the table holds the other of the two."""
    curves: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for (block, cell, drug, dose), values in single.items():
        curves.setdefault((block, cell, drug), []).append((dose, float(np.mean(values))))
    rises = [max(curve)[1] - min(curve)[1] for curve in curves.values() if len(curve) > 1]
    if len(rises) >= ENOUGH and np.mean(np.array(rises) < 0) > 0.8:
        other = _other(scale)
        raise InputError(
            f"response_scale={scale}: in {sum(r < 0 for r in rises)} of {len(rises)} dose series inhibition would "
            f"shrink from the lowest dose to the highest. Is it {other}?"
        )
