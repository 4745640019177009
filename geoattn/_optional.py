"""The one place that imports optional packages: a missing one names the extra that brings it."""

from importlib import import_module
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or raise an ImportError that says which extra of geoattn installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        if error.name and error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there; something that it needs is not
        raise ImportError(
            f"{module} is needed here and is not installed. Install it with: pip install 'geoattn[{extra}]'",
            name=module,
        ) from error
