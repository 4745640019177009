"""CDR3s that are one edit apart, found without comparing all with all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def variants(sequence: str) -> Iterator[str]:
    """The sequence with a wildcard at each place: two that are one substitution apart share one of these."""
    for i in range(len(sequence)):
        yield f"{sequence[:i]}?{sequence[i + 1 :]}"


def shortened(sequence: str) -> Iterator[str]:
    """The sequence without each of its letters in turn: one insertion apart, it is the other sequence itself."""
    for i in range(len(sequence)):
        yield sequence[:i] + sequence[i + 1 :]


class NearIndex:
    """Sequences to which others are compared: is one of them at an edit distance of at most 1?

    Args:
        sequences: the references. Memory grows with their total length: about 30 MB for 20,000 CDR3s.

    Example:
        >>> index = NearIndex(["CASSF", "CASRW"])
        >>> index.nearest("CASF"), index.nearest("CAVRW"), index.nearest("CSSSSF")
        ('CASSF', 'CASRW', None)
    """

    def __init__(self, sequences: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        for sequence in sequences:
            if sequence not in self._exact:
                self._exact[sequence] = sequence
                for key in (*variants(sequence), *(f"-{short}" for short in shortened(sequence))):
                    self._keys.setdefault(key, sequence)

    def nearest(self, sequence: str) -> str | None:
        """The same sequence if it is there, else one at distance 1, else None."""
        if sequence in self._exact:
            return sequence
        longer = self._keys.get(f"-{sequence}")
        if longer is not None:
            return longer
        for key in variants(sequence):
            if key in self._keys:
                return self._keys[key]
        return next((self._exact[short] for short in shortened(sequence) if short in self._exact), None)


def near_clusters(sequences: Sequence[str]) -> list[int]:
    """A number for each sequence, the same for those that chains of single edits join.

    Example:
        >>> near_clusters(["CASSF", "CASRF", "CQQQQW", "CARF"])
        [0, 0, 1, 0]
    """
    place = {sequence: i for i, sequence in enumerate(dict.fromkeys(sequences))}
    parent = list(range(len(place)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[str, int] = {}
    for sequence, i in place.items():
        for key in variants(sequence):
            parent[root(i)] = root(first.setdefault(key, i))
        for short in shortened(sequence):
            if short in place:
                parent[root(i)] = root(place[short])
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(place[sequence]), len(numbers)) for sequence in sequences]
