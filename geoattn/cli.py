"""The command ``geoattn``: looks at two words, imports that task alone, and prints an error as one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import geoattn
from geoattn.errors import GeoattnError, InputError, nearest_hint

TASKS = {
    "molecules": "properties of molecules and structures: regression, classification, energies",
    "dynamics": "motion of interacting bodies: where they are, and how fast they move, after some time",
    "synergy": "which drugs act together in which cell lines: scores or classes of pairs, ranked screens",
    "tcr": "which T-cell receptors bind which epitopes, beside baselines that keep the score honest",
    "pointclouds": "what scans and shapes are in any pose: classes of clouds, classes of their points, normals",
    "sphere": "fields on the globe, on any grid: forecasts, fields from other fields, classes of places",
    "multiview": "what new cameras see of a scene, from a few posed images of it",
}
VERBS = {
    "demo": "the whole way on data the package makes: two minutes on two cores",
    "fit": "train on a file of your own, measure beside baselines, write a report",
    "test": "measure a trained model on a file",
    "predict": "predict a file of any length with a trained model",
    "audit": "count what the parts of a split share",
}
OWN_VERBS = {
    "synergy": {"screen": "predict all pairs of a list of drugs in given cell lines, ranked"},
    "pointclouds": {"view": "a window with a cloud, coloured by what a model says of it"},
}
"""Verbs that one task alone has."""
OTHERS = {"models": "the pretrained models that come with geoattn", "info": "versions and machine, for a bug report"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the words behind ``geoattn``; those of the process if None.

    Returns:
        The exit code: 0, 2 for an error that the user can mend, 130 after Ctrl-C. Anything unforeseen is raised.
    """
    # Threads that wait for work sleep instead of spinning. On two cores that something else uses too, spinning makes
    # training ten times slower. OpenMP reads this when torch is imported, which happens later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except GeoattnError as error:
        return _complain(error)
    except ImportError as error:
        if "pip install 'geoattn[" not in str(error):
            raise
        return _complain(error)
    except KeyboardInterrupt:
        print("geoattn: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(error: Exception) -> int:
    print(f"geoattn: {error}", file=sys.stderr)
    return 2


def _run(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "help"):
        print(_overview())
    elif first in ("-V", "--version"):
        print(f"geoattn {geoattn.__version__}")
    elif first in OTHERS:
        _refuse_more(first, words[1:])
        {"models": _models, "info": _info}[first]()
    elif first in TASKS:
        _run_task(first, words[1:])
    else:
        hint = nearest_hint(first, [*TASKS, *OTHERS])
        raise InputError(f"There is no task or command {first!r}. {hint} See: geoattn --help")
    return 0


def _run_task(task: str, words: list[str]) -> None:
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help", "help"):
        print(_verbs(task))
    elif verb in _verbs_of(task):
        import_module(f"geoattn.tasks.{task}").run(verb, words[1:])
    else:
        near = nearest_hint(verb, list(_verbs_of(task)))
        raise InputError(f"{task} has no verb {verb!r}. {near} See: geoattn {task} --help")


def _verbs_of(task: str) -> dict[str, str]:
    return VERBS | OWN_VERBS.get(task, {})


def _overview() -> str:
    return "\n".join(
        [
            f"geoattn {geoattn.__version__}: geometric attention for science",
            "",
            "usage: geoattn TASK VERB [options]     options of a verb: geoattn TASK VERB --help",
            "",
            "tasks",
            *_listed(TASKS),
            "",
            "verbs of every task",
            *_listed(VERBS),
            "",
            "other commands",
            *_listed(OTHERS),
            "",
            "begin with: geoattn molecules demo",
        ]
    )


def _verbs(task: str) -> str:
    usage = f"usage: geoattn {task} VERB [options]     options of a verb: geoattn {task} VERB --help"
    return "\n".join([f"geoattn {task}: {TASKS[task]}", "", usage, "", *_listed(_verbs_of(task))])


def _listed(entries: dict[str, str]) -> list[str]:
    return [f"  {name:<11} {what}" for name, what in entries.items()]


def _refuse_more(command: str, words: list[str]) -> None:
    if words:
        raise InputError(f"geoattn {command} takes no options, got {' '.join(words)!r}.")


def _models() -> None:
    from geoattn.hub import list_models

    for model in list_models():
        print(f"{model.name}\n    {model.description}")


def _info() -> None:
    from geoattn.tasks._run import environment

    for name, value in environment().items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
