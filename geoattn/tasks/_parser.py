"""Options of a verb: jsonargparse as LightningCLI sets it up, with errors of one line that name the nearest option.

LightningCLI itself would build the model before the data are read, while the model's input width, elements and target
constants are known only after that; so its parser is used, and the tasks build data, model and trainer in that order.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from lightning import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from geoattn.errors import InputError, nearest_hint

RECIPES = Path(str(files("geoattn.tasks"))) / "recipes"


class UsageError(InputError):
    """The command line, or a recipe, cannot be understood."""


class TaskParser(LightningArgumentParser):
    """jsonargparse's parser that raises `UsageError` with one line instead of printing its usage and leaving."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a parser that jsonargparse makes of this class to try the options of a logger
            super().error(message, ex)
        options = [with_dashes(option) for action in self._actions for option in action.option_strings]
        raise UsageError(f"{explain(message, options)} All options: {self.prog} --help") from None

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, with the names of options as they are said everywhere."""
        return with_dashes(super().format_help(*args, **kwargs))


def with_dashes(text: str) -> str:
    """``--data.frame_in`` as ``--data.frame-in``, wherever an option stands in the text; both are understood."""
    return re.sub(r"(?<![\w-])--[\w.]+", lambda option: option[0].replace("_", "-"), text)


def make_parser(command: str, description: str, usage: str) -> TaskParser:
    """The parser of one verb.

    Args:
        command: ``"geoattn TASK VERB"``.
        description: what it does, one sentence.
        usage: the options that most people need, behind the command.
    """
    return TaskParser(prog=command, description=description, usage=f"{command} {usage}", allow_abbrev=False)


def explain(message: str, options: list[str]) -> str:
    """One line for a person, from what jsonargparse says."""
    text = re.sub(r"\s+", " ", message).strip()
    if found := re.match(r"unrecognized arguments: (\S+)", text, re.IGNORECASE):
        word = with_dashes(found[1].split("=")[0])
        return _unknown_option(word, options) if word.startswith("-") else f"Unexpected argument {word!r}."
    if found := re.search(r"Group '(.+?)' does not accept option '(.+?)'", text):
        return _unknown_key(f"{found[1]}.{found[2]}", options)
    if found := re.search(r"Option '(.+?)' is not accepted", text):
        return _unknown_key(found[1], options)
    if found := re.search(r'Parser key "(.+?)": (.*)', text):
        return f"{found[1]}: {_expected(found[2])}"
    if found := re.match(r"the following arguments are required: (.+)", text):
        short = {"data.file": "data", "data.expression": "expression"}
        names = ["--" + short.get(name.strip(), name.strip()) for name in found[1].split(",")]
        return f"Missing: {', '.join(names)}."
    if found := re.match(r"argument (\S+): (.*)", text):
        return f"{found[1]}: {found[2].rstrip('.')}."
    return text.rstrip(".") + "."


def _unknown_option(word: str, options: list[str]) -> str:
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return f"Unknown option {word}." + (f" Did you mean {near[0]}?" if near else "")


def _unknown_key(key: str, options: list[str]) -> str:
    keys = [option.lstrip("-").replace("-", "_") for option in options]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"Unknown key {key!r} in the recipe." + (f" Did you mean {near[0]!r}?" if near else "")


def _expected(text: str) -> str:
    """What jsonargparse says about a wrong value, without Python's spelling of types."""
    plain = re.sub(r"typing\.|<class '([\w.]+)'>", r"\1", text).replace("NoneType", "null")
    value = re.search(r"(?:Got value|Given value): (.*)$", plain)
    kinds = re.search(r"Subtypes: \[(.*)\] Errors:", plain) or re.search(r"Expected an? (.+?)\. Got value", plain)
    if value is None or kinds is None:
        return plain.rstrip(".") + "."
    choices = re.findall(r"'([^']+)'", kinds[1])
    hint = f" {nearest_hint(value[1], choices)}" if difflib.get_close_matches(value[1], choices, cutoff=0.5) else ""
    expected = re.sub(r"Literal\[([^\]]*)\]", r"\1", kinds[1].replace("], null", "] or null"))
    return f"got {value[1]!r}, expected {expected}.{hint}"


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


LISTS = frozenset({"--data.inputs", "--data.targets", "--epitopes", "--cells", "--against"})
"""Options that take ``a,b`` for ``[a, b]``."""
OF_DATA = frozenset(
    f"--{name}"
    for name in (
        "on_error", "frame_in", "frame_out", "split", "tcr", "epitope", "anchors", "negatives", "tcr_column",
        "v_column", "j_column", "full_column", "epitope_column", "smiles_column", "label_column", "id_column",
        "study_column", "expression", "drugs", "score", "positive", "negative", "response_scale", "drug_a_column",
        "drug_b_column", "cell_column", "score_column", "tissue_column", "smiles_a_column", "smiles_b_column",
        "dose_a_column", "dose_b_column", "response_column", "block_column", "drug_name_column", "drug_smiles_column",
        "expression_scale", "expression_cell_column", "expression_transposed", "join_names", "task", "file_column",
    )
)  # fmt: skip
"""Options of the data that are written without ``data.``, as in the verbs that have no others of the data."""


def expand_arguments(task: str, arguments: list[str], data: str | None = "--data.file") -> list[str]:
    """Short forms to what jsonargparse reads.

    ``--data FILE`` is ``--data.file FILE``; ``--on-error`` and the like are ``--data.on_error`` where there are options
    of the data; ``--recipe NAME`` is the recipe's file and goes first, so that every other option overrides it; a list
    may be written ``a,b``; a switch such as ``--quiet`` needs no value.

    Args:
        task: whose recipes are meant.
        arguments: the words behind the verb.
        data: what ``--data`` stands for; None for verbs that have no options of the data.
    """
    words = _split_equals(arguments)
    recipe: list[str] = []
    rest: list[str] = []
    for k, word in enumerate(words):
        value = words[k + 1] if k + 1 < len(words) else None
        if k and words[k - 1] == "--recipe":
            continue
        if word == "--recipe" and value is not None:
            recipe = ["--recipe", str(recipe_path(task, value))]
        elif word == "--data" and data is not None:
            rest.append(data)
        elif word in OF_DATA and data is not None:
            rest.append(word.replace("--", "--data."))
        elif word == "--quiet" and (value is None or value.startswith("--")):
            rest += [word, "true"]
        elif k and words[k - 1] in LISTS and not word.startswith("[") and word != "null":
            rest.append(f"[{word}]")
        else:
            rest.append(word)
    return recipe + rest


def _split_equals(arguments: list[str]) -> list[str]:
    """``--option=value`` as two words, and dashes within the name of an option as underscores."""
    words: list[str] = []
    for argument in arguments:
        if not argument.startswith("--"):
            words.append(argument)
            continue
        option, equals, value = argument.partition("=")
        words.append("--" + option[2:].replace("-", "_"))
        words += [value] if equals else []
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


def data_parser(
    task: str, verb: str, description: str, usage: str, data: type[LightningDataModule], skip: set[str]
) -> TaskParser:
    """A parser with the options of the data of a task.

    Args:
        task, verb, description, usage: see `make_parser`.
        data: its data module.
        skip: arguments of it that are no options.
    """
    parser = make_parser(f"geoattn {task} {verb}", description, usage)
    parser.add_class_arguments(data, "data", skip=skip, instantiate=False, sub_configs=False)
    for action in parser._actions:
        if action.option_strings == ["--data"]:
            action.metavar, action.help = "FILE", "your file, short for --data.file"
    return parser


def run_function(task: str, verb: str, function: Callable[..., Any], usage: str, arguments: list[str]) -> None:
    """A verb whose options are the arguments of a function."""
    parser = make_parser(f"geoattn {task} {verb}", (function.__doc__ or "").split("\n", 1)[0], usage)
    parser.add_function_arguments(function, as_group=False, sub_configs=False)
    function(**parser.parse_args(expand_arguments(task, arguments, data=None)).as_dict())
