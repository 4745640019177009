"""``geoattn molecules fit``: from a file and options to a run folder with a trained, measured model."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ActionConfigFile
from lightning import Trainer
from torch import nn

from geoattn.datasets.molecules import MoleculesData
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import evaluate
from geoattn.errors import InputError
from geoattn.tasks._molecules_evaluate import (
    baseline_predictions,
    molecule_keys,
    predict_samples,
    prediction_table,
    split_record,
)
from geoattn.tasks._molecules_module import MoleculesModule
from geoattn.tasks._parser import TaskParser, differences, expand_arguments, merged, recipe_path
from geoattn.tasks._run import RunFolder, command_line, read_config, say
from geoattn.tasks._training import (
    TRAINER_DEFAULTS,
    TRAINER_OPTIONS_SET_HERE,
    EpochSeed,
    Keeper,
    Progress,
    make_trainer,
)

TASK = "molecules"
STRUCTURE_SUFFIXES = (".xyz", ".extxyz", ".sdf")
ABOUT_THE_CALL = ("recipe", "out", "resume", "quiet")
"""Options that say how to run, not what is trained; they are not written to ``config.yaml``."""
MEASURED = ("valid", "test")


@dataclass
class CardOptions:
    """What the model card says and no number can tell.

    Args:
        title: of the model.
        summary: one sentence: what it predicts.
        data: the data set and where it comes from; the name of the file if left out.
        data_licence: under which the data may be used.
        targets: target -> meaning and unit.
        limits: where the model must not be trusted, one sentence each.
    """

    title: str | None = None
    summary: str | None = None
    data: str | None = None
    data_licence: str = "not stated"
    targets: dict[str, str] | None = None
    limits: list[str] | None = None


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        model: the trained model, or the ensemble of the members.
        metrics: what stands in ``metrics.json``.
    """

    folder: Path
    model: nn.Module
    metrics: dict[str, Any]


def fit_parser() -> TaskParser:
    """The options of ``geoattn molecules fit``."""
    parser = TaskParser("geoattn molecules fit", "Train a model on molecules or structures of your own.")
    parser.add_argument("--recipe", action=ActionConfigFile, help="a recipe that comes with geoattn, or a YAML file")
    parser.add_argument("--out", type=str | None, help="run folder; runs/molecules-<date>-<time> if left out")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, after a stop or a kill")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and order; member k has seed + k")
    parser.add_argument("--ensemble", type=int, default=1, help="members; their spread is the uncertainty")
    parser.add_class_arguments(
        MoleculesData, "data", skip={"graph", "seed", "progress"}, instantiate=False, sub_configs=False
    )
    parser.add_class_arguments(MoleculesModule, "model", skip={"data"}, instantiate=False, sub_configs=False)
    parser.add_class_arguments(
        Trainer, "trainer", skip=set(TRAINER_OPTIONS_SET_HERE), instantiate=False, fail_untyped=False
    )
    parser.add_class_arguments(CardOptions, "card", instantiate=False)
    parser.set_defaults({"data.cutoff": 6.0, **{f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()}})
    for action in parser._actions:
        if action.option_strings == ["--data"]:
            action.metavar, action.help = "FILE", "your file, short for --data.file"
    return parser


def run_fit(arguments: list[str]) -> Run:
    """The verb, from the words of the command line behind it."""
    expanded = expand_arguments(TASK, arguments, lists=frozenset({"--data.targets"}))
    out, resume = _value_of("--out", expanded), "--resume" in expanded
    stored = read_config(Path(out)) if resume and out else None
    if stored is not None:
        expanded = ["--recipe", str(Path(out) / "config.yaml"), *expanded]
    config = fit_parser().parse_args(expanded).as_dict()
    return fit_config(config, command_line([TASK, "fit", *arguments]))


def fit(
    file: str | Path,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a model on a file of molecules or structures, as ``geoattn molecules fit`` does.

    Args:
        file: CSV, TSV, Parquet, SDF or extended XYZ.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or a file that cannot be used.

    Example:
        >>> from geoattn.tasks import molecules
        >>> run = molecules.fit("esol.csv", recipe="molecules-esol", data={"split": "scaffold"})  # doctest: +SKIP
        >>> run.metrics["test"]["rmse"]["value"]  # doctest: +SKIP
    """
    base = yaml.safe_load(recipe_path(TASK, recipe).read_text(encoding="utf-8")) if recipe else {}
    stored = read_config(Path(out)) if resume and out else None
    config = merged(stored or {}, merged(base, options))
    config = merged(config, {"data": {"file": str(file)}, "resume": resume, "quiet": quiet})
    if out is not None:
        config["out"] = str(out)
    parsed = fit_parser().parse_object(config).as_dict()
    return fit_config(parsed, f"geoattn.tasks.molecules.fit({str(file)!r}, recipe={recipe!r}, ...)")


def fit_config(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config = _resolved({name: value for name, value in options.items() if name not in ABOUT_THE_CALL})
    folder = RunFolder.at(TASK, options["out"], resume=options["resume"])
    quiet = options["quiet"]
    if options["resume"]:
        _refuse_other_options(folder.path, config)
    data = MoleculesData(**config["data"], graph=_graph(config), seed=config["seed"], progress=not quiet)
    data.setup()
    MoleculesModule(data, **config["model"])  # options that do not fit the data show now, before anything is written
    smiles = data.table["smiles"].tolist()
    keys = molecule_keys(data.samples, smiles)
    split = split_record(data.split, data.table["id"].tolist(), keys, data.split_spec, data.split_seed)
    if options["resume"]:
        _refuse_other_data(folder, split)
    folder.make()
    folder.write_config(config)
    folder.write_json("split.json", split)
    folder.write_table("rejected.csv", data.rejected)
    folder.write_environment(command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    say(
        f"{len(data.samples)} molecules: {sizes}; {len(data.rejected)} rejected. Run folder: {folder.path}", quiet=quiet
    )
    began = time.monotonic()
    model, keepers, device = _train_members(folder, config, data, quiet)
    seconds = time.monotonic() - began
    return _finish(folder, config, data, model, keepers, device, command, split, seconds, quiet)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The options with the choices made that they leave open."""
    if config["ensemble"] < 1:
        raise InputError(f"ensemble: got {config['ensemble']}, expected at least 1.")
    file = Path(config["data"]["file"])
    structures = any(suffix.lower() in STRUCTURE_SUFFIXES for suffix in file.suffixes[-2:])
    name = config["model"]["name"] or ("egnn" if structures else "graph-attention")
    return merged(config, {"data": {"file": str(file.absolute())}, "model": {"name": name}})


def _graph(config: Mapping[str, Any]) -> str:
    return "3d" if config["model"]["name"] == "egnn" else "2d"


def _value_of(option: str, arguments: list[str]) -> str | None:
    return next((value for word, value in zip(arguments, arguments[1:], strict=False) if word == option), None)


def _refuse_other_options(path: Path, config: Mapping[str, Any]) -> None:
    stored = read_config(path)
    if stored is None:
        return
    changed = differences(stored, config)
    if changed:
        was, now = (_at(options, changed[0]) for options in (stored, config))
        raise InputError(
            f"--resume: {changed[0]} was {was!r} when the run in {path} began, now it is {now!r}. Leave the option "
            "out to go on as before, or start anew with another --out."
        )


def _at(options: Any, key: str) -> Any:
    for part in key.split("."):
        options = options.get(part) if isinstance(options, Mapping) else None
    return options


def _refuse_other_data(folder: RunFolder, split: Mapping[str, Any]) -> None:
    stored = folder.read_json("split.json")
    if stored is not None and stored != split:
        raise InputError(
            f"--resume: the molecules of the file, or their split, are no longer those that the run in {folder.path} "
            "began with. Restore the file, or start anew with another --out."
        )


def _train_members(
    folder: RunFolder, config: Mapping[str, Any], data: MoleculesData, quiet: bool
) -> tuple[nn.Module, list[Keeper], torch.device]:
    """Train what is not trained yet; the model with the best weights of each member, and where it was trained."""
    members: list[nn.Module] = []
    keepers: list[Keeper] = []
    for k in range(config["ensemble"]):
        seed = config["seed"] + k
        label = f"Member {k + 1} of {config['ensemble']}" if config["ensemble"] > 1 else "Training"
        checkpoint = folder.path / "checkpoints" / f"seed-{seed}.ckpt"
        keeper = Keeper(checkpoint, lambda module: module.averaged)
        callbacks = [EpochSeed(seed), keeper]
        if not quiet:
            callbacks.append(
                Progress(label, keeper, ("train_loss", "valid_loss", _headline_metric(data.task, "valid_")))
            )
        with _calm_lightning(), torch.random.fork_rng():
            trainer = make_trainer(config["trainer"], callbacks)
            torch.manual_seed(seed)
            module = MoleculesModule(data, **config["model"])
            data.seed = seed
            trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if not keeper.best_weights:
            raise InputError(
                "the validation loss was never a number: the training diverged. Lower --model.learning_rate, or look "
                "for extreme values in the targets."
            )
        module.averaged.load_state_dict(keeper.best_weights)
        members.append(module.averaged)
        keepers.append(keeper)
    return (Ensemble(members) if len(members) > 1 else members[0]), keepers, trainer.strategy.root_device


def _headline_metric(task: str, prefix: str = "") -> str:
    return prefix + {"classification": "roc_auc", "energy": "mae"}.get(task, "rmse")


@contextmanager
def _calm_lightning() -> Iterator[None]:
    """Without Lightning's advice on loaders, loggers and devices, which geoattn has chosen."""
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: MoleculesData,
    model: nn.Module,
    keepers: list[Keeper],
    device: torch.device,
    command: str,
    split: Mapping[str, Any],
    seconds: float,
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report."""
    targets = data.preprocess["targets"]
    y = data.table[targets].to_numpy(np.float64)
    rows = [row for part in MEASURED for row in data.split[part]]
    mean, std = predict_samples(model, [data.samples[row] for row in rows], data.target_transform, device)
    model = model.cpu()
    table = (
        data.table.drop(columns="file").iloc[rows].assign(split=[part for part in MEASURED for _ in data.split[part]])
    )
    folder.write_table("predictions.csv", prediction_table(table, targets, mean, std))
    position = {row: i for i, row in enumerate(rows)}
    metrics: dict[str, Any] = {}
    for part in MEASURED:
        chosen = [position[row] for row in data.split[part]]
        metrics[part] = evaluate(y[data.split[part]], mean[chosen], data.task)
    test = data.split["test"]
    say("Baselines ...", quiet=quiet)
    baselines = baseline_predictions(
        data.samples, data.table["smiles"].tolist(), y, data.task, data.split["train"], test, config["seed"]
    )
    metrics["baselines"] = {"test": {name: evaluate(y[test], values, data.task) for name, values in baselines.items()}}
    folder.write_json("metrics.json", metrics)
    return Run(folder.path, model, metrics)
