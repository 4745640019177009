"""The command ``geoattn``: looks at two words, imports that task alone, and prints errors as one message."""

from __future__ import annotations

import sys
from importlib import import_module

from geoattn.errors import GeoattnError, nearest_hint

TASKS = {"molecules": "properties of molecules and structures: regression, classification, energies"}
VERBS = {
    "demo": "the whole way on data the package makes: two minutes on two cores",
    "fit": "train on a file of your own: data, baselines, model, report",
    "test": "measure a trained model on a file",
    "predict": "predict a file of any length with a trained model",
    "audit": "count what the parts of a split share",
}
OTHERS = {
    "models": "the pretrained models that come with geoattn",
    "info": "versions, machine and kernels, for a report",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 for a failure, 2 for an error that the user can mend."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        return _dispatch(words)
    except (GeoattnError, ImportError) as error:
        if isinstance(error, ImportError) and "geoattn[" not in str(error):
            raise
        print(f"geoattn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("geoattn: stopped.", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    task, verb = words[0], words[1] if len(words) > 1 else None
    if task not in TASKS:
        raise GeoattnError(f"There is no task or command {task!r}. {nearest_hint(task, [*TASKS, *OTHERS])}")
    import_module(f"geoattn.tasks.{task}").run(verb, words[2:])
    return 0


def _overview() -> str:
    return "geoattn"


if __name__ == "__main__":
    sys.exit(main())
