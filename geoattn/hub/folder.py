"""Model folders: how a trained model is written, checked and read.

A folder holds plain files: ``config.json`` (class, arguments, format number, checksum), ``model.safetensors``,
``preprocess.json``, ``metrics.json``, ``split.json`` and the card ``README.md``. Pickles are neither written nor read.
"""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import geoattn
from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError, nearest_hint
from geoattn.hub import registry, shipped
from geoattn.hub.card import Card, render_card

FORMAT = 1
"""Number of the folder format that this version writes. It changes together with a converter for older folders."""

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_TABLES = ("preprocess.json", "metrics.json", "split.json")
_FILES = frozenset({_CONFIG, _WEIGHTS, _CARD, *_TABLES})
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
_CONFIG_TYPES: dict[str, type] = {
    "geoattn_version": str,
    "task": str,
    "class": str,
    "arguments": dict,
    "ensemble_size": int,
    "sha256": dict,
    "summary": str,
}


@dataclass(frozen=True)
class Pretrained:
    """A model read from a folder, and what was written down with it.

    Attributes:
        model: the model in evaluation mode on the CPU; an :class:`~geoattn.domains.ensemble.Ensemble` if the folder
            holds more than one member.
        config: class, constructor arguments, task and versions.
        preprocess: everything needed to featurise new data as the training data were.
        metrics: the measured numbers, per split, with the baselines.
        split: which rows were used for training, validation and test.
        folder: where it was read.
    """

    model: nn.Module
    config: dict[str, Any]
    preprocess: dict[str, Any]
    metrics: dict[str, Any]
    split: dict[str, Any]
    folder: Path

    @property
    def task(self) -> str:
        """The task the model was trained for, e.g. ``"molecules"``."""
        return self.config["task"]


def save_pretrained(
    folder: str | os.PathLike[str],
    model: nn.Module,
    *,
    task: str,
    preprocess: Mapping[str, Any],
    metrics: Mapping[str, Any],
    split: Mapping[str, Any],
    card: Card,
) -> Path:
    """Write a model folder that :func:`from_pretrained` reads.

    The folder is written beside its final place, read back once as a check, and only then renamed: whatever goes
    wrong, what stood at ``folder`` stays as it was. A model folder that is already there is replaced; any other folder
    with content is refused.

    Args:
        folder: where to write; missing parent folders are made.
        model: a model of a registered class (:mod:`geoattn.hub.registry`) with its constructor arguments in
            ``model.config``, or an :class:`~geoattn.domains.ensemble.Ensemble` of such. An ensemble of one is written
            as its only member.
        task: the task it was trained for, e.g. ``"molecules"``.
        preprocess: everything needed to featurise new data; JSON types.
        metrics: the ``metrics.json`` mapping; NaN is written as null.
        split: the ``split.json`` mapping, e.g. row numbers of ``train``, ``valid`` and ``test``.
        card: what the card says beyond these.

    Returns:
        The absolute path of the folder.

    Raises:
        InputError: the class is not registered, something is not JSON, the model does not load again, the folder holds
            something else, or the disk refuses (full, read-only, no permission).
    """
    folder = Path(folder).resolve()
    _refuse_to_replace_other_things(folder)
    members = list(model.models) if isinstance(model, Ensemble) else [model]
    whole = Ensemble(members) if len(members) > 1 else members[0]
    weights = safetensors.torch.save(_plain_tensors(whole))
    config = {
        "format": FORMAT,
        "geoattn_version": geoattn.__version__,
        "task": task,
        "summary": card.summary,
        "class": registry.name_of(members[0]),
        "arguments": _arguments(members[0]),
        "ensemble_size": len(members),
        "sha256": {_WEIGHTS: _sha256(weights)},
    }
    tables = {"preprocess.json": preprocess, "metrics.json": _nan_as_null(metrics), "split.json": split}
    texts = {name: _to_json(name, content) for name, content in {_CONFIG: config, **tables}.items()}
    texts[_CARD] = render_card(card, name=folder.name, config=config, metrics=tables["metrics.json"], split=split)
    try:
        with _replaced_when_done(folder) as fresh:
            for name, text in texts.items():
                _write_flushed(fresh / name, text.encode())
            _write_flushed(fresh / _WEIGHTS, weights)
            _check_that_it_loads(fresh, folder)
    except OSError as error:
        raise InputError(
            f"The model folder {folder} could not be written: {error.strerror or error}. What stood there before is "
            "unchanged. Free some space or choose another folder, then save again."
        ) from error
    return folder


def from_pretrained(folder_or_name: str | os.PathLike[str]) -> Pretrained:
    """Read a model folder, or a shipped model by its name (:func:`list_models`). A path that exists goes first.

    Loading is strict: every tensor of the model must be in the file with its shape and dtype, nothing may be left
    over, and the checksum must be the one written down when the folder was saved. The random state of torch is left
    alone.

    Args:
        folder_or_name: a folder written by :func:`save_pretrained`, or the name of a shipped model.

    Raises:
        InputError: names the folder, the file or the key at fault, and the next step.

    Example:
        >>> from geoattn.hub import from_pretrained
        >>> loaded = from_pretrained("runs/first/model")  # doctest: +SKIP
        >>> loaded.model, loaded.preprocess["targets"]  # doctest: +SKIP
    """
    folder = _find(folder_or_name)
    _refuse_incomplete(folder)
    config = _read_config(folder)
    state = _read_weights(folder, config)
    model = _build(folder, config)
    _load_strictly(model, state, folder / _WEIGHTS)
    tables = {name: _read_json(folder / name) for name in _TABLES}
    return Pretrained(
        model=model.eval(),
        config=config,
        preprocess=tables["preprocess.json"],
        metrics=tables["metrics.json"],
        split=tables["split.json"],
        folder=folder,
    )


# ---------------------------------------------------------------------------------------------------------- writing


def _plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as dense copies of their own: tied and expanded tensors are written out in full."""
    tensors = {}
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise InputError(
                f"model: {key!r} is not a dense tensor and cannot be saved. Register it with persistent=False and "
                "build it in the constructor."
            )
        tensors[key] = value.detach().cpu().contiguous().clone()
    return tensors


def _arguments(model: nn.Module) -> dict[str, Any]:
    config = getattr(model, "config", None)
    if not isinstance(config, Mapping):
        raise InputError(
            f"model: {type(model).__name__}.config is {type(config).__name__}, expected a dict of the constructor's "
            "arguments, so that the model can be built again."
        )
    return dict(config)


def _to_json(name: str, content: Mapping[str, Any]) -> str:
    try:
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        where = ".".join(map(str, _first_not_json(content) or ["?"]))
        raise InputError(
            f"{name}: {where} cannot be written as JSON ({error}). Use plain numbers (no NaN), texts, lists and dicts."
        ) from error


def _first_not_json(value: Any) -> list[Any] | None:
    """The keys that lead to the first value that JSON cannot hold."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, inner in items:
        try:
            json.dumps({key: inner}, allow_nan=False)
        except (TypeError, ValueError):
            return [key, *(_first_not_json(inner) or [])]
    return None


def _nan_as_null(value: Any) -> Any:
    """Metrics that could not be computed (a correlation of one point, say) are gaps, which JSON writes as null."""
    if isinstance(value, Mapping):
        return {key: _nan_as_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_as_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_to_replace_other_things(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder for the model. Choose another name.")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in _FILES)
    if others:
        raise InputError(
            f"{folder} exists and holds other things than a model ({others[0]!r} and {len(others) - 1} more). "
            "Nothing was written. Choose a new folder."
        )


@contextmanager
def _replaced_when_done(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder`` that takes its place at the end, or vanishes if the block fails."""
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    old = fresh.with_suffix(".old")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _write_flushed(path: Path, data: bytes) -> None:
    """Write and flush to disk: the folder that holds the file is renamed later, as a whole."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _check_that_it_loads(fresh: Path, folder: Path) -> None:
    try:
        from_pretrained(fresh)
    except InputError as error:
        message = str(error).replace(str(fresh), str(folder))
        raise InputError(f"The model was not saved, since it would not load again. {message}") from error


# ---------------------------------------------------------------------------------------------------------- reading


def _find(folder_or_name: str | os.PathLike[str]) -> Path:
    path = Path(folder_or_name)
    if path.is_dir():
        return path.resolve()
    if os.path.lexists(path):
        raise InputError(f"{path} is a file, expected a model folder (the one that holds {_CONFIG}) or a model name.")
    names = shipped.names()
    if str(folder_or_name) in names:
        return shipped.folder(str(folder_or_name))
    raise InputError(
        f"There is no folder {str(folder_or_name)!r} here ({Path.cwd()}) and no shipped model of that name. "
        + (nearest_hint(str(folder_or_name), names) or "No models are shipped with this version.")
    )


def _refuse_incomplete(folder: Path) -> None:
    present = {entry.name for entry in folder.iterdir()}
    missing = [name for name in (_CONFIG, _WEIGHTS, *_TABLES) if name not in present]
    if not missing:
        return
    if _WEIGHTS in missing and (pickles := sorted(name for name in present if name.endswith(_PICKLES))):
        raise InputError(
            f"{folder} has {pickles[0]} and no {_WEIGHTS}. geoattn never opens pickled weights, since they can run any "
            "code. Ask for the model in safetensors form, or train it again."
        )
    if (folder / "model" / _CONFIG).is_file():
        raise InputError(f"{folder} is a run folder; its model is in {folder / 'model'}: name that one.")
    raise InputError(
        f"{folder} is not a complete model folder: {', '.join(missing)} missing. A model folder is written by "
        "save_pretrained (in a run folder it is model/); copy all of its files together."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}. Restore the file from where the folder came.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: got a {type(content).__name__}, expected an object with named entries.")
    return content


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    config = _read_json(path)
    number = config.get("format")
    if type(number) is not int or number < 1:
        raise InputError(f"{path}: 'format' is {number!r}, expected a number from 1 to {FORMAT}. Is it geoattn's file?")
    if number > FORMAT:
        raise InputError(
            f"{path}: the folder has format {number}, written by geoattn {config.get('geoattn_version', '?')}; this is "
            f"geoattn {geoattn.__version__}, which reads up to format {FORMAT}. Update it: pip install -U geoattn"
        )
    for key, kind in _CONFIG_TYPES.items():
        if type(config.get(key)) is not kind:
            got = "no such key" if key not in config else f"{config[key]!r}"
            raise InputError(f"{path}: {key!r}: got {got}, expected {kind.__name__}. Restore the file as it was saved.")
    if config["ensemble_size"] < 1:
        raise InputError(f"{path}: 'ensemble_size' is {config['ensemble_size']}, expected 1 or more.")
    return config


def _read_weights(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / _WEIGHTS
    data = path.read_bytes()
    if data.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer and not the weights. Run: git lfs pull")
    if _sha256(data) != config["sha256"].get(_WEIGHTS):
        raise InputError(
            f"{path} ({len(data):,} bytes) is not the file that was saved: its SHA-256 differs from the one in "
            f"{_CONFIG}. It was damaged or exchanged; copy the folder again."
        )
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}). Copy the folder again.") from error


def _build(folder: Path, config: dict[str, Any]) -> nn.Module:
    path = folder / _CONFIG
    try:
        kind = registry.class_of(config["class"])
    except InputError as error:
        raise InputError(f"{path}: 'class': {error}") from error
    try:
        with torch.random.fork_rng(devices=[]):  # the first weights are thrown away; the caller's seed stays
            members = [kind(**config["arguments"]) for _ in range(config["ensemble_size"])]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: 'arguments' do not build a {config['class']}: {error} The folder was written by geoattn "
            f"{config['geoattn_version']}, this is {geoattn.__version__}."
        ) from error
    return Ensemble(members) if len(members) > 1 else members[0]


def _load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    floats = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(floats) == 1:
        dtype = floats.pop()
        model._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
    expected = model.state_dict()
    faults = [f"{key!r} is missing" for key in expected if key not in state]
    faults += [f"{key!r} is not a key of this model" for key in state if key not in expected]
    faults += [
        f"{key!r} has {_describe(state[key])}, expected {_describe(tensor)}"
        for key, tensor in expected.items()
        if key in state and _describe(state[key]) != _describe(tensor)
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise InputError(
            f"{path} does not fit the model in {_CONFIG}: {'; '.join(faults[:3])}{more}. The two files belong to "
            "different models or versions; copy the folder again or load it with the version in its config."
        )
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:  # e.g. a buffer made by expand, which cannot be filled
        raise InputError(f"{path}: {error}") from error


def _describe(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
