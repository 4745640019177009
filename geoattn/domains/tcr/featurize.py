"""From pairs of a user's file to the tensors that a model reads, the same way in training and in prediction."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from geoattn.domains.records import RecordError
from geoattn.domains.tcr import amino_acids, smiles_tokens
from geoattn.domains.tcr.augment import Augment, reverse_rows
from geoattn.domains.tcr.batch import PairBatch, Sequences
from geoattn.domains.tcr.epitope_graph import epitope_graph, peptide_smiles, peptide_to_spell
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError, nearest_hint

FORMAT = 1
"""Version of the keys of ``preprocess`` and of what they mean."""

V, CDR3, J = 1, 2, 3
"""The regions of a receptor."""

DEFAULTS: dict[str, Any] = {
    "format": FORMAT,
    "tcr": "full",
    "epitope": "smiles",
    "atom_mode": "V2",
    "smiles_vocabulary": sorted(smiles_tokens.PEPTIDE_TOKENS),
}
CHOICES = {
    "tcr": ("cdr3", "full"),
    "epitope": ("aa", "smiles", "graph"),
    "atom_mode": ("V1", "V2", "ORGANIC", "RIGR"),
}
_MOST_EPITOPES = 4096  # kept encoded; a graph takes about 30 kB


def make_preprocess(epitopes: Iterable[Epitope] = (), **changes: Any) -> dict[str, Any]:
    """A complete ``preprocess`` dict (plain JSON values): the defaults with ``changes``.

    =====================  ========================================================================================
    ``tcr``                ``"cdr3"`` or the ``"full"`` variable domain
    ``epitope``            ``"aa"``: amino acids; ``"smiles"``: tokens of the SMILES; ``"graph"``: atoms and bonds
    ``atom_mode``          chemprop's atom features V1, V2, ORGANIC or RIGR (graph)
    ``smiles_vocabulary``  tokens, sorted (smiles); token 3 + i of the model is entry i
    =====================  ========================================================================================

    Args:
        epitopes: what the vocabulary has to cover besides the twenty amino acids; only ``epitope="smiles"`` asks.
        changes: keys and values that differ from the defaults.

    Raises:
        InputError: an unknown key or value, with the nearest known one.
    """
    for key, value in changes.items():
        if key not in DEFAULTS:
            raise InputError(f"preprocess: unknown key {key!r}. {nearest_hint(key, list(DEFAULTS))}")
        if key in CHOICES and value not in CHOICES[key]:
            raise InputError(f"{key}: got {value!r}. {nearest_hint(str(value), CHOICES[key])}")
    preprocess = {**DEFAULTS, **changes}
    if preprocess["epitope"] == "smiles" and "smiles_vocabulary" not in changes:
        preprocess["smiles_vocabulary"] = smiles_tokens.fit_vocabulary(map(peptide_smiles, epitopes))
    return preprocess


class Featurizer:
    """Receptors, epitopes and batches of pairs as tensors, as ``preprocess`` says.

    Tokens come without START and STOP: a model that wants them adds them.

    Args:
        preprocess: as `make_preprocess` returns it.
        augment: draws other spellings in `collate`; None in validation and prediction.

    Example:
        >>> featurizer = Featurizer(make_preprocess(tcr="cdr3", epitope="aa"))
        >>> pair = Pair("1", Receptor("CASSIRSSYEQYF"), Epitope("GILGFVFTL"), label=1)
        >>> featurizer.collate([pair, pair]).tcr.tokens.shape
        torch.Size([1, 13])
    """

    def __init__(self, preprocess: dict[str, Any], augment: Augment | None = None) -> None:
        self.preprocess, self.augment = preprocess, augment
        self._epitopes: dict[Epitope, np.ndarray | Data] = {}
        self._molecules: dict[Epitope, Any] = {}

    def tcr(self, receptor: Receptor) -> tuple[list[int], list[int]]:
        """Tokens of a receptor, and the region of each: 1 V segment, 2 CDR3, 3 J segment.

        Raises:
            RecordError: a letter that is no amino acid, or no full sequence where it is needed.
        """
        tokens, region, _ = self._receptors([receptor])
        return tokens[0].tolist(), region[0].tolist()

    def epitope(self, epitope: Epitope) -> np.ndarray | Data:
        """Tokens of an epitope ``[L]`` int64, or its molecular graph.

        Raises:
            RecordError: a sequence or SMILES that cannot be used, or SMILES of another peptide.
        """
        if epitope not in self._epitopes:
            if len(self._epitopes) >= _MOST_EPITOPES:
                self._epitopes.clear()
            self._epitopes[epitope] = self._encode(epitope)
        return self._epitopes[epitope]

    def collate(self, pairs: Sequence[Pair]) -> PairBatch:
        """The batch of some pairs; each distinct receptor and each distinct epitope stands in it once.

        Labels are None if any pair has none.
        """
        receptors, pair_tcr = _distinct([self._key(pair.receptor) for pair in pairs], [p.receptor for p in pairs])
        epitopes, pair_epitope = _distinct([p.epitope.sequence for p in pairs], [p.epitope for p in pairs])
        tokens, region, lengths = self._receptors(receptors)
        if self.augment is not None:
            flips = self.augment.flips(len(receptors))
            tokens, region = reverse_rows(tokens, lengths, flips), reverse_rows(region, lengths, flips)
        labels = [pair.label for pair in pairs]
        return PairBatch(
            tcr=Sequences(torch.from_numpy(tokens), torch.from_numpy(region)),
            epitope=self._collate_epitopes(epitopes),
            pair_tcr=pair_tcr,
            pair_epitope=pair_epitope,
            label=None if None in labels else torch.tensor(labels, dtype=torch.float32),
        )

    def _key(self, receptor: Receptor) -> Hashable:
        if self.preprocess["tcr"] == "cdr3":
            return receptor.cdr3
        return receptor.full, receptor.start, receptor.cdr3

    def _receptors(self, receptors: Sequence[Receptor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens ``[S, L]``, regions ``[S, L]`` and lengths ``[S]``."""
        if self.preprocess["tcr"] == "cdr3":
            tokens, lengths = amino_acids.padded_tokens([r.cdr3 for r in receptors], "cdr3")
            return tokens, np.where(tokens != amino_acids.PAD, CDR3, 0), lengths
        for receptor in receptors:
            if not receptor.full:
                hint = "Give the genes v and j, or the full sequence, or train with --tcr cdr3."
                raise RecordError("cdr3", receptor.cdr3, "the rest of the chain is not known", hint)
        tokens, lengths = amino_acids.padded_tokens([r.full for r in receptors], "full_sequence")
        start = np.array([r.start for r in receptors], dtype=np.int64)[:, None]
        stop = start + np.array([len(r.cdr3) for r in receptors], dtype=np.int64)[:, None]
        place = np.arange(tokens.shape[1])
        region = V + (place >= start).astype(np.int64) + (place >= stop)
        return tokens, np.where(tokens != amino_acids.PAD, region, 0), lengths

    def _encode(self, epitope: Epitope) -> np.ndarray | Data:
        kind = self.preprocess["epitope"]
        if kind == "graph":
            return epitope_graph(epitope, self.preprocess["atom_mode"])
        if kind == "aa":
            return np.array(amino_acids.tokens(epitope.sequence, "epitope"))
        return self._smiles_tokens(peptide_smiles(epitope))

    def _smiles_tokens(self, smiles: str) -> np.ndarray:
        return np.array(smiles_tokens.tokens(smiles, self.preprocess["smiles_vocabulary"]))

    def _collate_epitopes(self, epitopes: Sequence[Epitope]) -> Sequences | Batch:
        kind, augment = self.preprocess["epitope"], self.augment
        if kind == "smiles" and augment is not None and augment.smiles:
            return _padded([self._smiles_tokens(augment.spell(self._molecule(epitope))) for epitope in epitopes])
        rows: list[Any] = [self.epitope(epitope) for epitope in epitopes]
        if kind == "graph":
            return _graph_batch(rows)
        if kind == "aa" and augment is not None:
            flips = augment.flips(len(rows))
            rows = [row[::-1] if flip else row for row, flip in zip(rows, flips, strict=True)]
        return _padded(rows)

    def _molecule(self, epitope: Epitope) -> Any:
        if epitope not in self._molecules:
            if len(self._molecules) >= _MOST_EPITOPES:
                self._molecules.clear()
            self._molecules[epitope] = peptide_to_spell(epitope)
        return self._molecules[epitope]


def _distinct(keys: Sequence[Hashable], values: Sequence[Any]) -> tuple[list[Any], torch.Tensor]:
    """The value of each distinct key, in order of first appearance, and ``[P]`` where each key's value stands."""
    place: dict[Hashable, int] = {}
    found = []
    for key, value in zip(keys, values, strict=True):
        if key not in place:
            place[key] = len(place)
            found.append(value)
    return found, torch.tensor([place[key] for key in keys], dtype=torch.int64)


def _padded(rows: Sequence[np.ndarray]) -> Sequences:
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max(initial=0)), dtype=np.int64)
    if rows:
        tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return Sequences(torch.from_numpy(tokens))


def _graph_batch(graphs: Sequence[Data]) -> Batch:
    """``Batch.from_data_list`` for graphs that are known to have these four tensors: ten times as fast."""
    num_atoms = torch.tensor([graph.num_nodes for graph in graphs])
    num_edges = torch.tensor([graph.edge_index.shape[1] for graph in graphs])
    ptr = torch.cat([num_atoms.new_zeros(1), num_atoms.cumsum(0)])
    return Batch(
        x=torch.cat([graph.x for graph in graphs]),
        edge_index=torch.cat([graph.edge_index for graph in graphs], 1) + ptr[:-1].repeat_interleave(num_edges),
        edge_attr=torch.cat([graph.edge_attr for graph in graphs]),
        residue=torch.cat([graph.residue for graph in graphs]),
        batch=torch.arange(len(graphs)).repeat_interleave(num_atoms),
        ptr=ptr,
    )
