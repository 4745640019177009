"""Options of a verb: jsonargparse as LightningCLI sets it up, with errors of one line that name the nearest option.

LightningCLI itself would build the model before the data are read, while the model's input width, elements and target
constants are known only after that; so its parser is used, and the tasks build data, model and trainer in that order.
"""

import difflib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from geoattn.errors import InputError, nearest_hint

RECIPES = Path(str(files("geoattn.tasks"))) / "recipes"


class UsageError(InputError):
    """The command line, or a recipe, cannot be understood."""


class TaskParser(LightningArgumentParser):
    """jsonargparse's parser that raises `UsageError` with one line instead of printing its usage and leaving."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        options = [option for action in self._actions for option in action.option_strings]
        raise UsageError(f"{explain(message, options)} All options: {self.prog} --help") from None


def explain(message: str, options: list[str]) -> str:
    """One line for a person, from what jsonargparse says."""
    text = re.sub(r"\s+", " ", message).strip()
    if found := re.match(r"unrecognized arguments: (\S+)", text, re.IGNORECASE):
        word = found[1].split("=")[0]
        return _unknown_option(word, options) if word.startswith("-") else f"Unexpected argument {word!r}."
    if found := re.search(r"Group '(.+?)' does not accept option '(.+?)'", text):
        return _unknown_key(f"{found[1]}.{found[2]}", options)
    if found := re.search(r"Option '(.+?)' is not accepted", text):
        return _unknown_key(found[1], options)
    if found := re.search(r'Parser key "(.+?)": (.*)', text):
        return f"{found[1]}: {_expected(found[2])}"
    if found := re.match(r"the following arguments are required: (.+)", text):
        return f"Missing: {', '.join('--' + name.strip() for name in found[1].split(','))}."
    if found := re.match(r"argument (\S+): (.*)", text):
        return f"{found[1]}: {found[2].rstrip('.')}."
    return text.rstrip(".") + "."


def _unknown_option(word: str, options: list[str]) -> str:
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return f"Unknown option {word}." + (f" Did you mean {near[0]}?" if near else "")


def _unknown_key(key: str, options: list[str]) -> str:
    near = difflib.get_close_matches(key, [option.lstrip("-") for option in options], n=1, cutoff=0.5)
    return f"Unknown key {key!r} in the recipe." + (f" Did you mean {near[0]!r}?" if near else "")


def _expected(text: str) -> str:
    """What jsonargparse says about a wrong value, without Python's spelling of types."""
    plain = re.sub(r"typing\.|<class '([\w.]+)'>", r"\1", text)
    value = re.search(r"(?:Got value|Given value): (.*)$", plain)
    if (union := re.search(r"Subtypes: \[(.*)\] Errors:", plain)) and value:
        return f"got {value[1]!r}, expected {union[1].replace('NoneType', 'null').replace('], ', '] or ')}."
    if (kind := re.search(r"Expected an? (.+?)\. Got value", plain)) and value:
        return f"got {value[1]!r}, expected {kind[1]}."
    return plain.rstrip(".") + "."


def recipe_path(task: str, name_or_file: str) -> Path:
    """The file of a recipe: one that comes with geoattn by its name, or the user's own file.

    Raises:
        UsageError: there is neither; the message has the nearest name.
    """
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"--recipe: there is no file {name_or_file}.")
        return path
    names = recipe_names(task)
    if name_or_file not in names:
        raise UsageError(f"--recipe: there is no recipe {name_or_file!r}. {nearest_hint(name_or_file, names)}")
    return RECIPES / f"{name_or_file}.yaml"


def recipe_names(task: str) -> list[str]:
    """The recipes of a task that come with geoattn."""
    return sorted(path.stem for path in RECIPES.glob(f"{task}-*.yaml"))


def expand_arguments(task: str, arguments: list[str], lists: frozenset[str] = frozenset()) -> list[str]:
    """Short forms to what jsonargparse reads.

    ``--data FILE`` is ``--data.file FILE``; ``--recipe NAME`` is the recipe's file and goes first, so that every other
    option overrides it; options in ``lists`` take ``a,b`` for ``[a, b]``.
    """
    pairs = _split_equals(arguments)
    recipe: list[str] = []
    rest: list[str] = []
    while pairs:
        word = pairs.pop(0)
        if word == "--recipe" and pairs:
            recipe = ["--recipe", str(recipe_path(task, pairs.pop(0)))]
        elif word == "--data" and pairs:
            rest += ["--data.file", pairs.pop(0)]
        elif word in lists and pairs:
            value = pairs.pop(0)
            rest += [word, value if value.startswith("[") or value == "null" else f"[{value}]"]
        else:
            rest.append(word)
    return recipe + rest


def _split_equals(arguments: list[str]) -> list[str]:
    """``--option=value`` as two words."""
    words: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        words += [option, value] if equals and option.startswith("--") else [argument]
    return words


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """``first`` with the values of ``second`` on top, level by level."""
    result = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys whose values differ."""
    found = []
    for key in dict.fromkeys([*first, *second]):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found
