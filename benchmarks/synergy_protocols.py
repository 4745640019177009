"""A network beside names and fingerprints, over the folds of several protocols; nothing is chosen on a test part.

    python benchmarks/synergy_to_csv.py FOLDER_OF_THE_TABLES .
    python benchmarks/synergy_protocols.py deepdds.csv deepdds_cells_tpm954.csv.gz oneil_drugs.csv
    python benchmarks/synergy_protocols.py oneil.csv oneil_cells.npz oneil_drugs.csv --protocols oneil

DeepDDS set, classification (Loewe score of at least 10 against at most 0, repeats merged): ``random`` and
``combination`` (published folds), ``drug`` (every pair with a drug of a block is test) and ``tissue`` (each in turn is
test). O'Neil's screen, regression: ``oneil`` (published folds, new pairs). The validation part is cut out of the
training folds as far from the rest as the test part is (``drug``: new pairs of known drugs) and decides nothing: all
epochs of the recipe are trained. For each protocol mean and
standard deviation over folds are printed: of the seeds, of their mean (ensemble) and of the baselines. Finished folds
are kept in --out and not computed again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from geoattn.domains.metrics import evaluate
from geoattn.domains.synergy.baselines import make_baselines
from geoattn.domains.synergy.batch import PairCollator
from geoattn.tasks._fit import parse_mapping
from geoattn.tasks._members import train_members
from geoattn.tasks._run import RunFolder
from geoattn.tasks._synergy_evaluate import predict_pairs, scores_of
from geoattn.tasks._synergy_fit import fit_parser
from geoattn.tasks._synergy_module import SynergyData, SynergyModule

TISSUES = ("breast", "colon", "lung", "melanoma", "ovarian", "prostate")
SPLITS = {
    "random": [f"column:fold_random={k}" for k in range(5)],
    "combination": [f"column:fold_comb={k}" for k in range(5)],
    "drug": [f"column:drug_{k}" for k in range(5)],
    "tissue": [f"column:tissue={name}" for name in TISSUES],
    "oneil": [f"column:fold={k}" for k in range(5)],
}
CLASSES = {"task": "classification", "positive": 10, "negative": 0}
SYNERGISTIC = 30.0
"""Loewe score from which a combination of O'Neil's screen counts as synergistic."""


def config_of(arguments: argparse.Namespace, split: str, out: Path) -> dict[str, Any]:
    """The options of a fit of one fold."""
    oneil = split.startswith("column:fold=")
    data = {"expression": str(arguments.expression), "drugs": str(arguments.drugs), "split": split}
    data |= {"expression_scale": "zscore"} if oneil else CLASSES
    options = {"data": data, "ensemble": len(arguments.seeds), "seed": arguments.seeds[0]}
    recipe = yaml.safe_load(json.dumps(json.loads(arguments.options)))
    for group, values in recipe.items():
        options[group] = options.get(group, {}) | values
    return parse_mapping(fit_parser(), "synergy", arguments.file, arguments.recipe, out, False, True, options)


def metrics_of(y: np.ndarray, p: np.ndarray, task: str) -> dict[str, float]:
    """What the published tables show."""
    columns = y[:, None], p[:, None]
    if task == "classification":
        found = evaluate(*columns, "classification", num_bootstrap=0)
        return {name: found[name]["value"] for name in ("roc_auc", "pr_auc", "accuracy")}
    found = evaluate(*columns, "regression", num_bootstrap=0)
    classes = evaluate((columns[0] >= SYNERGISTIC).astype(float), columns[1], "classification", num_bootstrap=0)
    return {name: found[name]["value"] for name in ("rmse", "pearson")} | {
        name: classes[name]["value"] for name in ("roc_auc", "pr_auc")
    }


def one(arguments: argparse.Namespace, split: str, out: Path) -> dict[str, Any]:
    """The figures of one fold."""
    file = out / f"{split.replace(':', '-').replace('=', '-')}.json"
    if file.is_file():
        return json.loads(file.read_text())
    config = config_of(arguments, split, out)
    torch.manual_seed(config["seed"])
    data = SynergyData(**config["data"], seed=config["seed"])
    data.setup()
    folder = RunFolder(out / file.stem)
    folder.make()
    trained = train_members(folder, config, data, lambda: SynergyModule(data, **config["model"]), "", quiet=True)
    samples, y = data.part("test"), scores_of(data.part("test"))
    collate = PairCollator(data.drug_features, data.cells)
    members = list(trained.model.models) if len(arguments.seeds) > 1 else [trained.model]
    found: dict[str, Any] = {"best_epochs": trained.best_epochs, "pairs": len(samples)}
    found["seconds per epoch"] = float(trained.history["seconds"].median())
    for seed, member in zip(arguments.seeds, members, strict=True):
        found[f"seed {seed}"] = metrics_of(y, predict_pairs(member, samples, collate, data.preprocess)[0], data.task)
    if len(members) > 1:
        together = predict_pairs(trained.model, samples, collate, data.preprocess)[0]
        found["ensemble"] = metrics_of(y, together, data.task)
    train = data.part("train")
    found["baselines"] = {
        baseline.name: metrics_of(y, baseline.fit(train).predict(samples), data.task)
        for baseline in make_baselines(train, data.cells, data.task)
        if baseline.name in arguments.baselines
    }
    file.write_text(json.dumps(found, indent=1) + "\n")
    return found


def table_of(folds: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per model: mean and standard deviation over folds."""
    rows = {}
    for name in [*(key for key in folds[0] if key.startswith(("seed", "ensemble"))), *folds[0]["baselines"]]:
        found = pd.DataFrame([fold.get(name) or fold["baselines"][name] for fold in folds])
        rows[name] = {c: f"{found[c].mean():.3f} ± {found[c].std(ddof=0):.3f}" for c in found}
    return pd.DataFrame(rows).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("expression", type=Path)
    parser.add_argument("drugs", type=Path)
    parser.add_argument("--protocols", nargs="+", choices=SPLITS, default=["combination", "tissue", "drug", "random"])
    parser.add_argument("--folds", nargs="+", type=int, help="numbers of folds; all if left out")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="consecutive")
    parser.add_argument("--recipe", default="synergy-egat")
    parser.add_argument("--options", default="{}", help='JSON on top of the recipe: {"model": {"channels": 64}}')
    parser.add_argument("--baselines", nargs="*", default=["additive_ridge", "one_hot_forest"], help="their names")
    parser.add_argument("--out", type=Path, default=Path("runs/synergy-protocols"))
    arguments = parser.parse_args()
    for protocol in arguments.protocols:
        out = arguments.out / protocol
        out.mkdir(parents=True, exist_ok=True)
        splits = [SPLITS[protocol][k] for k in arguments.folds or range(len(SPLITS[protocol]))]
        folds = []
        for split in splits:
            folds.append(one(arguments, split, out))
            print(split, json.dumps(folds[-1]), flush=True)
        print(f"\n{protocol}, {len(folds)} folds\n{table_of(folds).to_string()}\n", flush=True)


if __name__ == "__main__":
    main()
