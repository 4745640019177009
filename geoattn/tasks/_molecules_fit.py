"""``geoattn molecules fit``: from a file and options to a run folder with a trained, measured model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import yaml
from jsonargparse import ActionConfigFile
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from geoattn.datasets.molecules import MoleculesData
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import evaluate, evaluate_targets
from geoattn.domains.molecules.audit import audit
from geoattn.errors import InputError
from geoattn.hub import Card, from_pretrained, save_pretrained
from geoattn.tasks._molecules_evaluate import (
    Symmetry,
    baseline_predictions,
    headline_metric,
    measure_symmetry,
    molecule_keys,
    predict_samples,
    prediction_table,
    split_record,
)
from geoattn.tasks._molecules_module import MoleculesModule
from geoattn.tasks._molecules_report import Findings, write_fit_report
from geoattn.tasks._parser import (
    TaskParser,
    differences,
    expand_arguments,
    make_parser,
    merged,
    recipe_names,
    recipe_path,
)
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
DEFAULT_CUTOFF = 6.0
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


def data_parser(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    parser = make_parser(f"geoattn {TASK} {verb}", description, usage)
    parser.add_class_arguments(
        MoleculesData, "data", skip={"graph", "seed", "progress"}, instantiate=False, sub_configs=False
    )
    parser.set_defaults({"data.cutoff": DEFAULT_CUTOFF})
    for action in parser._actions:
        if action.option_strings == ["--data"]:
            action.metavar, action.help = "FILE", "your file, short for --data.file"
    return parser


def fit_parser() -> TaskParser:
    """The options of ``geoattn molecules fit``."""
    usage = "--data FILE [--recipe NAME|FILE] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    parser = data_parser("fit", "Train a model on molecules or structures of your own.", usage)
    recipes = ", ".join(recipe_names(TASK))
    parser.add_argument("--recipe", action=ActionConfigFile, help=f"a recipe of geoattn ({recipes}), or a YAML file")
    parser.add_argument("--out", type=str | None, help="run folder; runs/molecules-<date>-<time> if left out")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, after a stop or a kill")
    parser.add_argument("--quiet", type=bool, default=False, help="say nothing but errors")
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and order; member k has seed + k")
    parser.add_argument("--ensemble", type=int, default=1, help="members; their spread is the uncertainty")
    parser.add_class_arguments(MoleculesModule, "model", skip={"data"}, instantiate=False, sub_configs=False)
    parser.add_class_arguments(
        Trainer, "trainer", skip=set(TRAINER_OPTIONS_SET_HERE), instantiate=False, fail_untyped=False
    )
    parser.add_class_arguments(CardOptions, "card", instantiate=False)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    return parser


def run_fit(arguments: list[str]) -> Run:
    """The verb, from the words of the command line behind it."""
    expanded = expand_arguments(TASK, arguments)
    out, resume = _value_of("--out", expanded), "--resume" in expanded
    if resume and out and read_config(Path(out)) is not None:
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
        if (folder.path / "report.html").is_file():
            say(f"The run in {folder.path} is finished: nothing to resume.", quiet=quiet)
            finished = from_pretrained(folder.path / "model")
            return Run(folder.path, finished.model, finished.metrics)
    with _calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = MoleculesData(**config["data"], graph=_graph(config), seed=config["seed"], progress=not quiet)
        data.setup()
        MoleculesModule(data, **config["model"])  # and these before anything is written
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
    trained = _train_members(folder, config, data, quiet)
    run = _finish(folder, config, data, trained, command, split, quiet)
    say(f"Done. Report: {run.folder / 'report.html'}   Model: {run.folder / 'model'}", quiet=quiet)
    return run


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The options with the choices made that they leave open."""
    if config["ensemble"] < 1:
        raise InputError(f"ensemble: got {config['ensemble']}, expected at least 1.")
    if not 0 <= config["seed"] < 2**32 - config["ensemble"]:
        raise InputError(f"seed: got {config['seed']}, expected a number from 0 to 4294967295.")
    if config["model"]["num_layers"] < 1:
        raise InputError(f"model.num_layers: got {config['model']['num_layers']}, expected at least 1.")
    file = Path(config["data"]["file"])
    name = config["model"]["name"] or ("egnn" if is_structure_file(file) else "graph-attention")
    if name == "egnn" and config["data"]["cutoff"] is None:
        raise InputError("data.cutoff: egnn needs a cutoff in angstrom, e.g. --data.cutoff 6.")
    if name == "egnn" and config["data"]["descriptors"]:
        raise InputError("data.descriptors: egnn takes no descriptors. Leave them out, or use graph-attention.")
    return merged(config, {"data": {"file": str(file.absolute())}, "model": {"name": name}})


def is_structure_file(file: str | Path) -> bool:
    """Whether the file holds atoms in space, by its suffix."""
    return any(suffix.lower() in STRUCTURE_SUFFIXES for suffix in Path(file).suffixes[-2:])


def _graph(config: Mapping[str, Any]) -> Literal["2d", "3d"]:
    return "3d" if config["model"]["name"] == "egnn" else "2d"


def _value_of(option: str, arguments: list[str]) -> str | None:
    return next((value for word, value in pairwise(arguments) if word == option), None)


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


@dataclass
class Trained:
    """The model with the best weights of each member, where it was trained, and how that went."""

    model: nn.Module
    device: torch.device
    history: pd.DataFrame
    best_epochs: list[int]


def _train_members(folder: RunFolder, config: Mapping[str, Any], data: MoleculesData, quiet: bool) -> Trained:
    """Train what is not trained yet."""
    members: list[nn.Module] = []
    histories: list[pd.DataFrame] = []
    best_epochs: list[int] = []

    def write_history(running: pd.DataFrame) -> None:
        folder.write_table("metrics.csv", pd.concat([*histories, running]))

    for k in range(config["ensemble"]):
        seed = config["seed"] + k
        label = f"Member {k + 1} of {config['ensemble']}" if config["ensemble"] > 1 else "Training"
        module, keeper, device = _train_one(folder, config, data, seed, None if quiet else label, write_history)
        members.append(module.averaged)
        histories.append(keeper.history_table(seed))
        best_epochs.append(keeper.best_epoch)
    model = Ensemble(members) if len(members) > 1 else members[0]
    return Trained(model, device, pd.concat(histories, ignore_index=True), best_epochs)


def _averaged(module: LightningModule) -> nn.Module:
    """The network whose weights are kept when they are the best."""
    assert isinstance(module, MoleculesModule)
    return module.averaged


def _train_one(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: MoleculesData,
    seed: int,
    label: str | None,
    write_history: Callable[[pd.DataFrame], None],
) -> tuple[MoleculesModule, Keeper, torch.device]:
    """Train one member from where its checkpoint stands; its best weights are in ``averaged``."""
    checkpoint = folder.path / "checkpoints" / f"seed-{seed}.ckpt"
    keeper = Keeper(checkpoint, _averaged, lambda: write_history(keeper.history_table(seed)))
    callbacks: list[Callback] = [EpochSeed(seed), keeper]
    if label is not None:
        callbacks.append(Progress(label, ("train_loss", "valid_loss", f"valid_{headline_metric(data.task)}")))
    with _calm_lightning(), torch.random.fork_rng():
        trainer = make_trainer(config["trainer"], callbacks, folder.path)
        torch.manual_seed(seed)
        module = MoleculesModule(data, **config["model"])
        data.seed = seed
        try:
            trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            say(f"Stopped. Go on with: --resume --out {folder.path}", quiet=label is None)
            raise KeyboardInterrupt from None
    if not keeper.best_weights:
        raise InputError(
            "the validation loss was never a number: the training diverged. Lower --model.learning_rate, or look for "
            "extreme values among the targets."
        )
    module.averaged.load_state_dict(keeper.best_weights)
    return module, keeper, trainer.strategy.root_device


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
    trained: Trained,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report; the report is the last file."""
    preprocess, table = data.preprocess, data.table
    targets, smiles, test = preprocess["targets"], table["smiles"].tolist(), data.split["test"]
    y = table[targets].to_numpy(np.float64)
    say("Measuring, baselines, overlap of the parts ...", quiet=quiet)
    rows = [row for part in MEASURED for row in data.split[part]]
    mean, std = predict_samples(
        trained.model, [data.samples[row] for row in rows], data.target_transform, trained.device
    )
    model = trained.model.cpu()
    measured = table.drop(columns="file").iloc[rows].assign(split=[part for part in MEASURED for _ in data.split[part]])
    folder.write_table("predictions.csv", prediction_table(measured, targets, mean, std))
    folder.write_table("metrics.csv", trained.history)
    of_part = {"valid": slice(0, len(data.split["valid"])), "test": slice(len(data.split["valid"]), None)}
    metrics: dict[str, Any] = {part: evaluate(y[data.split[part]], mean[of_part[part]], data.task) for part in MEASURED}
    baselines = baseline_predictions(data.samples, smiles, y, data.task, data.split["train"], test, config["seed"])
    metrics["baselines"] = {"test": {name: evaluate(y[test], values, data.task) for name, values in baselines.items()}}
    if len(targets) > 1:
        metrics["targets"] = {"test": evaluate_targets(y[test], mean[of_part["test"]], data.task, targets)}
    folder.write_json("metrics.json", metrics)
    findings = Findings(
        task=data.task,
        targets=targets,
        units=preprocess["units"],
        y=y[test],
        prediction=mean[of_part["test"]],
        std=None if std is None else std[of_part["test"]],
        table=table.iloc[test],
        samples=data.part("test"),
        metrics=metrics,
        symmetry=measure_symmetry(model, data.part("test")),
    )
    overlap = audit(data.samples, smiles, table["id"].tolist(), data.split)
    card = _card(config, data, findings.symmetry, overlap, command)
    save_pretrained(
        folder.path / "model", model, task=TASK, preprocess=preprocess, metrics=metrics, split=split, card=card
    )
    write_fit_report(
        folder,
        findings,
        title=card.title,
        history=trained.history,
        best_epochs=trained.best_epochs,
        seconds=float(trained.history["seconds"].sum()),
        overlap=overlap,
        rejected=data.rejected,
        notes=data.notes,
        config=config,
        command=command,
    )
    return Run(folder.path, model, metrics)


def _card(
    config: Mapping[str, Any], data: MoleculesData, symmetry: Symmetry, overlap: Mapping[str, Any], command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said, targets, units = config["card"], data.preprocess["targets"], data.preprocess["units"]
    source = "geometry" if data.preprocess["graph"] == "3d" else "structural formula"
    name = Path(config["data"]["file"]).name
    return Card(
        title=said["title"] or f"{', '.join(targets)} of molecules",
        summary=said["summary"] or f"Predicts {', '.join(targets)} from the {source} of a molecule",
        targets={target: (said["targets"] or {}).get(target, units or "unit not stated") for target in targets},
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in overlap["pairs"]["train/test"].items()},
        symmetry=symmetry.text.rstrip("."),
        equivariance_error=symmetry.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=said["limits"] or [],
        input="molecules" + "".join(Path(name).suffixes[-1:]),
    )
