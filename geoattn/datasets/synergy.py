"""Tables of drug pairs as a Lightning data module: read, merge, split, standardise expression, batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader, Sampler

from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.sampler import EpochShuffle
from geoattn.datasets.splits import Split, split_column
from geoattn.datasets.synergy_chunks import Chunk, read_chunks
from geoattn.datasets.synergy_columns import SynergyColumns
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_expression import read_expression
from geoattn.datasets.synergy_files import CombinationReader, Source
from geoattn.datasets.synergy_names import Names
from geoattn.datasets.synergy_pairs import in_one_part, labelled, merged, repeats_of, table_of
from geoattn.datasets.synergy_parts import check_classes, check_parts
from geoattn.datasets.synergy_splits import split_combinations
from geoattn.domains.synergy.batch import DrugFeatures, PairCollator, fingerprints
from geoattn.domains.synergy.expression import Scale, apply_expression, fit_expression
from geoattn.domains.synergy.records import Combination, Drug
from geoattn.domains.synergy.responses import ResponseScale
from geoattn.errors import InputError

__all__ = ["Chunk", "SynergyData", "read_chunks"]


class SynergyData(lightning.LightningDataModule):
    """Drug pairs in cell lines, split into train, valid and test.

    Args:
        file: table of pairs, .csv, .tsv, .txt (also .gz) or .parquet: drug_a, drug_b, cell_line, score or label.
        expression: table of gene expression, a row per cell line (also .npz with cells, genes, expression).
        drugs: table of drugs with name and SMILES; may be left out if the table of pairs has smiles_a and smiles_b.
        task: regression of the score, or classification.
        score: where scores come from: the column, or hsa or bliss for the excess of responses at doses.
        positive: classification of scores: class 1 from this score up; left out, the column holds labels 0 and 1.
        negative: classification of scores: class 0 down from this score; those between are not measured, but those of
            the training part teach scores. Left out, class 0 is everything below ``positive``.
        response_scale: score=hsa, bliss: inhibition (0 to 1), inhibition_percent, viability or viability_percent.
        drug_a_column: the column with one drug; found by its usual names if left out.
        drug_b_column: the column with the other; found likewise.
        cell_column: the column with the cell line; found likewise.
        score_column: the column with the score or label; found likewise if there is only one.
        tissue_column: the column with the tissue; found likewise, also in the table of expression.
        smiles_a_column: the column with the SMILES of drug_a; found likewise.
        smiles_b_column: the column with the SMILES of drug_b; found likewise.
        id_column: the column that names rows; found likewise, else the line number is the id.
        dose_a_column: score=hsa, bliss: the column with the dose of drug_a; found likewise.
        dose_b_column: the column with the dose of drug_b; found likewise.
        response_column: the column with the response; found likewise.
        block_column: the column that says which single agents belong to a pair; shared by the file if there is none.
        drug_name_column: in the table of drugs, the column with names; found likewise.
        drug_smiles_column: in the table of drugs, the column with SMILES; found likewise.
        expression_scale: tpm (log2(1 + TPM) is taken), log2 or zscore; must be said if values do not look like TPM.
        expression_cell_column: in the table of expression, the column with cell lines; found likewise, else the first.
        expression_transposed: the table of expression has a row per gene.
        genes: keep so many genes, those that vary most among the training cells; all that vary if left out.
        join_names: take names that differ in punctuation and case alone (HCT-116, HCT116) for the same.
        graph: 2d, or 3d for models that need positions of atoms, which metal complexes have not.
        split: random, combination, drug, both-drugs, cell or tissue, each also as folds (combination:K:I),
            column:NAME, column:NAME=VALUE or file:PATH (ids).
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: pairs per batch.
        num_workers: processes of the data loader.
        seed: seed of the order of training batches.
        on_error: raise stops at the first bad row, skip lists bad rows in rejected.csv and goes on.
        drug_features: makes features of the distinct drugs of a batch; Morgan counts if left out. May be set after
            ``setup``, where it is fitted to the training part.

    Attributes (after ``setup``):
        samples: the usable combinations; one per unordered pair and cell line.
        table: the same rows: id, file, line, drug_a, drug_b, cell_line, tissue, score, key_a, key_b (the molecules) and
            the column of the split.
        split: row numbers under train, valid and test; rows between two parts are in none.
        between: combinations of the training part whose score lies between the classes.
        rejected: file, line, column, value and reason of each row that cannot be used.
        preprocess: JSON values, all that is needed to read new pairs in the same way.
        cells: name -> ``[G]`` float32 standardised expression of each cell line of ``samples`` and ``between``.
        repeats: how many rows repeated a pair in a cell line and were merged, and how many of all such rows stood with
            another score or label too: ``{"rows": n, "contradictory": n}``.
        notes: sentences about what was done to the data that a report should repeat.
    """

    samples: list[Combination]
    table: pd.DataFrame
    split: Split
    between: list[Combination]
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    cells: dict[str, np.ndarray]
    repeats: dict[str, int]
    notes: list[str]

    def __init__(
        self,
        file: str,
        expression: str,
        drugs: str | None = None,
        task: Literal["regression", "classification"] = "regression",
        score: Source = "column",
        positive: float | None = None,
        negative: float | None = None,
        response_scale: ResponseScale | None = None,
        drug_a_column: str | None = None,
        drug_b_column: str | None = None,
        cell_column: str | None = None,
        score_column: str | None = None,
        tissue_column: str | None = None,
        smiles_a_column: str | None = None,
        smiles_b_column: str | None = None,
        id_column: str | None = None,
        dose_a_column: str | None = None,
        dose_b_column: str | None = None,
        response_column: str | None = None,
        block_column: str | None = None,
        drug_name_column: str | None = None,
        drug_smiles_column: str | None = None,
        expression_scale: Scale | None = None,
        expression_cell_column: str | None = None,
        expression_transposed: bool = False,
        genes: int | None = None,
        join_names: bool = False,
        graph: Literal["2d", "3d"] = "2d",
        split: str = "combination",
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        on_error: OnError = "raise",
        drug_features: DrugFeatures | None = None,
    ) -> None:
        super().__init__()
        self.file, self.expression, self.drugs, self.task, self.score = file, expression, drugs, task, score
        self.positive, self.negative, self.response_scale = positive, negative, response_scale
        self.columns = SynergyColumns(
            drug_a=drug_a_column,
            drug_b=drug_b_column,
            cell_line=cell_column,
            score=score_column,
            tissue=tissue_column,
            smiles_a=smiles_a_column,
            smiles_b=smiles_b_column,
            id=id_column,
            dose_a=dose_a_column,
            dose_b=dose_b_column,
            response=response_column,
            block=block_column,
            required=[*filter(None, [split_column(split)])],
        )
        self.drug_columns = (drug_name_column, drug_smiles_column)
        self.expression_scale, self.expression_cell_column = expression_scale, expression_cell_column
        self.expression_transposed, self.genes, self.join_names = expression_transposed, genes, join_names
        self.graph, self.split_spec, self.split_seed = graph, split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.num_workers, self.seed, self.on_error = batch_size, num_workers, seed, on_error
        self.drug_features = drug_features or fingerprints
        self._check_task()

    def setup(self, stage: str | None = None) -> None:
        """Read, merge and split the tables, and standardise the expression; does nothing the second time."""
        if hasattr(self, "samples"):
            return
        expression = read_expression(self.expression, self.expression_cell_column, self.expression_transposed)
        rejections = Rejections(self.on_error)
        labels = self.task == "classification" and self.positive is None
        reader = CombinationReader(
            self.file,
            rejections,
            DrugTable(self.drugs, *self.drug_columns, join=self.join_names, space=self.graph == "3d"),
            Names(expression.cells, "cell line", self.expression, self.join_names),
            expression.tissue,
            self.columns,
            labels=labels,
            source=self.score,
            response_scale=self.response_scale,
        )
        samples = list(reader)
        self.notes = [*expression.notes, *reader.notes]
        samples = in_one_part(samples, split_column(self.split_spec), rejections)
        self.repeats = repeats_of(samples)
        contradictory = Rejections("skip")  # an answer of the screen, not a mistake in the file
        samples = merged(samples, labels=labels, rejections=contradictory, notes=self.notes)
        self.rejected = pd.concat([rejections.table(), contradictory.table()], ignore_index=True)
        if not samples:
            raise InputError(f"{self.file}: no usable combination; {len(self.rejected)} rows were rejected.")
        between: list[Combination] = []
        if self.positive is not None:
            samples, between = labelled(samples, self.positive, self.negative, self.notes)
        everything = [*samples, *between]
        split, notes = split_combinations(
            self.split_spec,
            table_of(everything, split_column(self.split_spec)),
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        self.notes.extend(notes)
        self.samples, self.table = samples, table_of(samples, split_column(self.split_spec))
        self.split = {part: [row for row in rows if row < len(samples)] for part, rows in split.items()}
        self.between = [everything[row] for row in split["train"] if row >= len(samples)]
        check_parts(self.part, len(between), self.split_spec)
        if self.task == "classification":
            scores = [score for s in everything if (score := s.measured) is not None]
            column = reader.layout.name.get("score", self.score)
            self.notes.extend(check_classes(self.part, self.split_spec, column, self.positive, scores))
        self._standardize(expression)

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part, and of scores between the classes, in an order drawn from ``(seed, epoch)``."""
        samples = self.trained_on()
        return self._loader(samples, EpochShuffle(len(samples), self.seed))

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation part, in the order of the file."""
        return self._loader(self.part("valid"))

    def test_dataloader(self) -> DataLoader:
        """Batches of the test part, in the order of the file."""
        return self._loader(self.part("test"))

    def predict_dataloader(self) -> DataLoader:
        """Batches of all combinations, in the order of the file."""
        return self._loader(self.samples)

    def part(self, name: str) -> list[Combination]:
        """The combinations of one part of the split: train, valid or test."""
        return [self.samples[row] for row in self.split[name]]

    def trained_on(self) -> list[Combination]:
        """The training part, and its combinations between the classes, which teach scores."""
        return [*self.part("train"), *self.between]

    def train_drugs(self) -> list[Drug]:
        """The distinct drugs of what is trained on, in order of first appearance: what a vocabulary is fitted to."""
        return list(dict.fromkeys(drug for sample in self.trained_on() for drug in (sample.drug_a, sample.drug_b)))

    def _loader(self, samples: Sequence[Combination], sampler: Sampler[int] | None = None) -> DataLoader:
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=PairCollator(self.drug_features, self.cells),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _standardize(self, expression: Any) -> None:
        """Fit genes and scale to the training cells, and apply them to all."""
        used = list(dict.fromkeys(sample.cell.name for sample in [*self.samples, *self.between]))
        train = list(dict.fromkeys(sample.cell.name for sample in self.trained_on()))
        fitted = fit_expression(expression, train, self.expression_scale, self.genes)
        values, notes = apply_expression(fitted, expression, fitted["scale"])
        place = {name: row for row, name in enumerate(expression.cells)}
        self.cells = {name: values[place[name]] for name in used}
        shown = "log2(1 + TPM)" if fitted["scale"] == "tpm" else f"as given ({fitted['scale']})"
        self.notes.append(
            f"Expression of {len(fitted['genes'])} of {len(expression.genes)} genes, {shown}, standardised with mean "
            f"and standard deviation of the {len(train)} training cell line{'s' * (len(train) != 1)}."
        )
        self.notes.extend(notes)
        self.preprocess = {
            "expression": fitted,
            "task": self.task,
            "score": self.score,
            "positive": self.positive,
            "negative": self.negative,
            "graph": self.graph,
            "train_cells": train,
            "train_drugs": sorted({drug.identity for drug in self.train_drugs()}),
        }

    def _check_task(self) -> None:
        if self.task not in ("regression", "classification"):
            raise InputError(f"task: got {self.task!r}, expected regression or classification.")
        if self.graph not in ("2d", "3d"):
            raise InputError(f"graph: got {self.graph!r}, expected 2d or 3d.")
        if self.task == "regression" and (self.positive is not None or self.negative is not None):
            raise InputError("positive, negative: thresholds are for task=classification.")
        if self.task == "classification" and self.score != "column" and self.positive is None:
            raise InputError(f"positive: say from which {self.score} excess on a pair is synergistic, e.g. 10.")
        if self.negative is not None and self.positive is None:
            raise InputError(
                f"negative: got {self.negative:g} without positive: say with --data.positive from which score on a "
                "pair is of class 1."
            )
        if self.negative is not None and self.positive is not None and self.negative >= self.positive:
            raise InputError(f"negative: got {self.negative:g}, expected less than positive ({self.positive:g}).")
