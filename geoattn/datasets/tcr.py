"""Files of receptors and epitopes as a Lightning data module: read, split, draw negatives, batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader, Sampler
from torch_geometric.data import Data

from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.sampler import EpochOrder, EpochShuffle
from geoattn.datasets.splits import PARTS, Split, split_column
from geoattn.datasets.tcr_chunks import Chunk, read_chunks
from geoattn.datasets.tcr_columns import Anchors, TCRColumns
from geoattn.datasets.tcr_epochs import FreshNegatives
from geoattn.datasets.tcr_files import PairReader
from geoattn.datasets.tcr_pairs import table_of, usable, without_repeats
from geoattn.datasets.tcr_splits import split_pairs
from geoattn.domains.tcr.augment import Augment
from geoattn.domains.tcr.batch import PairBatch
from geoattn.domains.tcr.featurize import Featurizer, make_preprocess
from geoattn.domains.tcr.negatives import draw_negatives
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError

Negatives = Literal["given", "uniform", "frequency", "background"]
__all__ = ["Chunk", "TCRData", "read_chunks"]


class TCRData(lightning.LightningDataModule):
    """Receptor-epitope pairs of a file, split into train, valid and test.

    Args:
        file: AIRR, VDJdb, IEDB, McPAS-TCR or own table: .csv, .tsv, .txt (also .gz) or .parquet.
        tcr_column: the column with the CDR3 of the beta chain; found by the usual names of the formats if left out.
        v_column: the column with the V gene; found likewise.
        j_column: the column with the J gene; found likewise.
        full_column: the column with the whole variable domain; found likewise.
        epitope_column: the column with the peptide's amino acids; found likewise.
        smiles_column: the column with the peptide's SMILES; found likewise, else made from the amino acids.
        label_column: the column that says 1 for binders, 0 for others; found likewise.
        id_column: the column that names pairs; found likewise, else the line number is the id.
        study_column: the column that says where a pair was measured; found likewise.
        anchors: do CDR3s stand with the conserved C and F or W (yes, no), or take them unchecked (none); known formats
            imply it.
        tcr: what is read of a receptor: the cdr3, or the full variable domain (built from V, CDR3 and J where the file
            has no such column).
        epitope: what is read of an epitope: aa for amino acids, smiles, or graph for atoms and bonds.
        negatives: given by the file's labels, or drawn within each part: uniform (as TITAN; rewards knowing the epitope
            alone), frequency (as many per epitope as it has binders), background (receptors of a file).
        negatives_ratio: negatives per binder, for those that are drawn.
        background: file of receptors for --negatives background; a column with CDR3s, anchors as in ``anchors``.
        fresh_negatives: so many negatives per binder are drawn anew in every epoch and take the place of the training
            part's own, with epitopes as frequent as among those; valid and test stay as they are. 0: train on the part
            as it is.
        split: tcr, epitope, both, study, column:NAME, column:NAME=VALUE, file:PATH (ids) or kfold:K:I.
        split_seed: seed of everything drawn for the split, and of negatives.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        cluster: keep CDR3s together that chains of single edits join, where receptors are kept apart.
        augment: training reads random SMILES, and amino acids backwards half of the time.
        batch_size: pairs per batch.
        num_workers: processes of the data loader.
        seed: seed of the order of training batches and of augmentation.
        on_error: raise stops at the first bad row, skip lists bad rows in rejected.csv and goes on.

    Attributes (after ``setup``):
        pairs: the usable pairs, then the negatives that were drawn.
        table: the same rows: id, file, line, cdr3, v, j, full (if it is known), epitope, label, study and the column of
            the split.
        split: row numbers under train, valid and test; rows between two parts are in none.
        rejected: file, line, column, value and reason of each row that cannot be used.
        changes: gene names that were written as IMGT has them: column, value, became, count.
        preprocess: JSON values, all that is needed to read new pairs in the same way.
        notes: sentences about what was done to the data that a report should repeat.
    """

    pairs: list[Pair]
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    changes: pd.DataFrame
    preprocess: dict[str, Any]
    notes: list[str]

    def __init__(
        self,
        file: str,
        tcr_column: str | None = None,
        v_column: str | None = None,
        j_column: str | None = None,
        full_column: str | None = None,
        epitope_column: str | None = None,
        smiles_column: str | None = None,
        label_column: str | None = None,
        id_column: str | None = None,
        study_column: str | None = None,
        anchors: Anchors | None = None,
        tcr: Literal["cdr3", "full"] = "cdr3",
        epitope: Literal["aa", "smiles", "graph"] = "aa",
        negatives: Negatives = "given",
        negatives_ratio: int = 1,
        background: str | None = None,
        fresh_negatives: int = 0,
        split: str = "tcr",
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        cluster: bool = False,
        augment: bool = False,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        self.file, self.anchors, self.on_error = file, anchors, on_error
        self.columns = TCRColumns(
            tcr=tcr_column,
            v=v_column,
            j=j_column,
            full=full_column,
            epitope=epitope_column,
            smiles=smiles_column,
            label=label_column,
            id=id_column,
            study=study_column,
            required=[*filter(None, [split_column(split)])],
        )
        self.kinds: dict[str, Any] = {"tcr": tcr, "epitope": epitope}
        self.negatives, self.negatives_ratio, self.background = negatives, negatives_ratio, background
        self.fresh_negatives = fresh_negatives
        self.split_spec, self.split_seed, self.cluster = split, split_seed, cluster
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.augment, self.batch_size, self.num_workers, self.seed = augment, batch_size, num_workers, seed
        if fresh_negatives < 0 or (fresh_negatives and negatives == "background"):
            raise InputError(
                f"--data.fresh-negatives: got {fresh_negatives} with --negatives {negatives}, expected 0 or more, and "
                "0 for background, whose receptors are used once."
            )
        if (negatives == "background") != (background is not None):
            raise InputError("--data.background: name the file of receptors if and only if --negatives is background.")
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("negatives_ratio", negatives_ratio, 1),
        ):
            if value < least:
                raise InputError(f"--data.{name.replace('_', '-')}: got {value}, expected at least {least}.")
        make_preprocess(**self.kinds, smiles_vocabulary=[])  # a kind that does not exist shows before the reading

    def setup(self, stage: str | None = None) -> None:
        """Read and split the file and draw negatives; does nothing the second time."""
        if hasattr(self, "pairs"):
            return
        rejections = Rejections(self.on_error)
        reader = PairReader(
            self.file,
            rejections,
            self.columns,
            anchors=self.anchors,
            labels=True,
            full=self.kinds["tcr"] == "full",
        )
        pairs = list(reader)
        self.notes, self.changes = reader.notes, reader.changes
        pairs = without_repeats(pairs, rejections, self.notes)
        pairs = usable(pairs, Featurizer(make_preprocess(**self.kinds)), rejections)
        self.rejected = rejections.table()
        pairs = self._with_labels(pairs, has_labels="label" in reader.layout.index)
        if not pairs:
            raise InputError(f"{self.file}: no usable pair; {len(self.rejected)} rows were rejected.")
        table = table_of(pairs, split_column(self.split_spec))
        self.split, notes = split_pairs(
            self.split_spec,
            table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            cluster=self.cluster,
        )
        self.notes.extend(notes)
        self.positives = {part: [pairs[row] for row in self.split[part]] for part in PARTS}
        if self.negatives != "given":
            self._add_negatives(pairs)
        if self.fresh_negatives:
            known = {(pair.receptor.cdr3, pair.epitope.sequence) for pair in pairs if pair.label == 1}
            train = [pairs[row] for row in self.split["train"]]
            self._groups = FreshNegatives(train, self.fresh_negatives, known, self.seed)
            self.notes.append(
                f"In training, {self.fresh_negatives} negatives per binder were drawn anew in every epoch, with "
                "epitopes as frequent as among the negatives of the training part, which they replace."
            )
        self.table = table_of(pairs, split_column(self.split_spec))
        self.pairs = pairs
        self._note_unread()
        self.preprocess = self._preprocess()

    def check_labels(self) -> None:
        """Refuse a part that has one label alone, which cannot be learned from, or measured on.

        Raises:
            InputError: naming the part.
        """
        for part in PARTS:
            labels = {pair.label for pair in self.part(part)}
            if len(labels) < 2:
                what = "binders" if labels == {1} else "pairs of label 0"
                raise InputError(
                    f"{self.file}: the {part} part of split {self.split_spec!r} has only {what} "
                    f"({len(self.split[part])}). Draw negatives (--negatives frequency), or choose another split or "
                    "larger fractions."
                )

    def _note_unread(self) -> None:
        """Pairs that differ in what is not read alone, and have both labels."""
        if self.kinds["tcr"] == "full":
            return
        labels: dict[tuple[str, str], set[int | None]] = {}
        for pair in self.pairs:
            labels.setdefault((pair.receptor.cdr3, pair.epitope.sequence), set()).add(pair.label)
        both = sum(len(found) > 1 for found in labels.values())
        if both:
            self.notes.append(
                f"{both} pairs of CDR3 and epitope stand with both labels, for receptors that differ in their genes: "
                "--tcr cdr3 cannot tell them apart."
            )

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part in an order drawn from ``(seed, epoch)``."""
        augment = Augment(self.seed) if self.augment else None
        if not self.fresh_negatives:
            pairs = self.part("train")
            return self._loader(pairs, EpochShuffle(len(pairs), self.seed), augment)
        return DataLoader(
            self._groups,
            batch_size=max(1, self.batch_size // (1 + self.fresh_negatives)),
            sampler=EpochOrder(len(self._groups), self.seed),
            collate_fn=partial(_collate_groups, Featurizer(self.preprocess, augment)),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation part, in the order of the file."""
        return self._loader(self.part("valid"))

    def test_dataloader(self) -> DataLoader:
        """Batches of the test part, in the order of the file."""
        return self._loader(self.part("test"))

    def predict_dataloader(self) -> DataLoader:
        """Batches of all pairs, in the order of the file."""
        return self._loader(self.pairs)

    def part(self, name: str) -> list[Pair]:
        """The pairs of one part of the split: train, valid or test."""
        return [self.pairs[row] for row in self.split[name]]

    def share_of_binders(self) -> float:
        """Of the pairs that are trained on."""
        if self.fresh_negatives:
            return 1 / (1 + self.fresh_negatives)
        return float(np.mean([pair.label == 1 for pair in self.part("train")]))

    def _loader(
        self,
        pairs: Sequence[Pair],
        sampler: Sampler[int] | None = None,
        augment: Augment | None = None,
    ) -> DataLoader:
        return DataLoader(
            pairs,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=Featurizer(self.preprocess, augment).collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _with_labels(self, pairs: list[Pair], has_labels: bool) -> list[Pair]:
        """All pairs if their negatives are given, else the binders."""
        if self.negatives == "given":
            if not has_labels:
                raise InputError(
                    f"{self.file}: there is no column of labels, and --negatives is given. Name it with "
                    "--label-column, or draw negatives: --negatives frequency."
                )
            return pairs
        binders = [pair for pair in pairs if pair.label == 1]
        if len(binders) < len(pairs):
            self.notes.append(
                f"{len(pairs) - len(binders)} pairs of label 0 were left out: --negatives {self.negatives} draws "
                "others."
            )
        return binders

    def _add_negatives(self, pairs: list[Pair]) -> None:
        """Draw the negatives of each part behind the pairs of the file, and enter them in the split."""
        self._binders = {(pair.receptor.cdr3, pair.epitope.sequence) for pair in pairs}
        self._pools = self._background_pools({pair.receptor.cdr3 for pair in pairs})
        for part in PARTS:
            try:
                drawn = self._draw(part)
            except InputError as error:
                raise InputError(f"{self.file}: the {part} part of split {self.split_spec!r}: {error}") from error
            self.split[part].extend(range(len(pairs), len(pairs) + len(drawn)))
            pairs.extend(drawn)
        self.notes.append(
            f"Negatives were drawn within each part (--negatives {self.negatives}, {self.negatives_ratio} per binder, "
            f"seed {self.split_seed}); none is a known binder of any part. They are not measured non-binders."
        )

    def _draw(self, part: str) -> list[Pair]:
        assert self.negatives != "given"
        drawn = draw_negatives(
            self.positives[part],
            self.negatives,
            self.negatives_ratio,
            [self.split_seed, PARTS.index(part)],
            known=self._binders,
            background=self._pools[part],
        )
        return [replace(pair, id=f"{part} {pair.id}") for pair in drawn]

    def _background_pools(self, known: set[str]) -> dict[str, list[Receptor]]:
        """Receptors of the background file that are in no pair, shared out so that no two parts have one in common."""
        if self.background is None:
            return {part: [] for part in PARTS}
        reader = PairReader(
            self.background,
            Rejections(self.on_error),
            replace(self.columns, epitope=None, smiles=None, label=None, id=None, study=None, required=[]),
            anchors=self.anchors,
            epitopes=["A"],  # a background file has none
            full=self.kinds["tcr"] == "full",
        )
        found = {pair.receptor.cdr3: pair.receptor for pair in reader if pair.receptor.cdr3 not in known}
        order = np.random.default_rng([self.split_seed, len(PARTS)]).permutation(len(found))
        sizes = np.array([len(self.positives[part]) for part in PARTS])
        ends = (np.cumsum(sizes) * len(found)) // sizes.sum()
        receptors = list(found.values())
        shares = np.split(order, ends[:-1])
        return {part: [receptors[i] for i in share] for part, share in zip(PARTS, shares, strict=True)}

    def _preprocess(self) -> dict[str, Any]:
        """What is fitted to the training part: lengths, epitopes with their counts, the vocabulary of SMILES."""
        train = self.part("train")
        epitopes: dict[str, Epitope] = {pair.epitope.sequence: pair.epitope for pair in train}
        counts = Counter((pair.epitope.sequence, pair.label) for pair in train)
        preprocess = make_preprocess(epitopes.values(), **self.kinds)
        featurizer = Featurizer(preprocess)
        sizes = [_size(featurizer.epitope(epitope)) for epitope in epitopes.values()]
        full = self.kinds["tcr"] == "full"
        return {
            **preprocess,
            "max_length": {
                "tcr": max(len(pair.receptor.full if full else pair.receptor.cdr3) for pair in train),
                "epitope": max(sizes),
            },
            "epitopes": {
                sequence: {"positives": counts[sequence, 1], "negatives": counts[sequence, 0]}
                for sequence in sorted(epitopes)
            },
            "negatives": {"scheme": self.negatives, "ratio": self.negatives_ratio, "fresh": self.fresh_negatives},
        }


def _collate_groups(featurizer: Featurizer, groups: Sequence[Sequence[Pair]]) -> PairBatch:
    return featurizer.collate([pair for group in groups for pair in group])


def _size(epitope: Any) -> int:
    """Tokens, or atoms of a graph."""
    return int(epitope.num_nodes) if isinstance(epitope, Data) else len(epitope)
