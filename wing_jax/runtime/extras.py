"""Optional packages, imported on first use; if one is missing, the message names the extra that installs it."""

import importlib
from types import ModuleType

from wing_jax.errors import InputError
from wing_jax.text import reason


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
      module: full name, such as "scipy.io".
      extra: the extra of pyproject.toml that installs it.
      purpose: what needs it, the beginning of the message: "reading .mat files".

    Returns:
      The module.

    Raises:
      InputError: the package is not installed, or cannot be imported.

    >>> require("json", extra="formats", purpose="reading JSON").loads("[1]")
    [1]
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(error, module, extra=extra, purpose=purpose) from error


def missing(error: ImportError, module: str, *, extra: str, purpose: str) -> InputError:
    """Return the error to raise if importing `module` raised `error`, for code that does not use `require`.

    Args:
      error: that the import raised.
      module: full name, such as "scipy.io".
      extra: the extra of pyproject.toml that installs it.
      purpose: what needs it.

    Returns:
      The error; it names the package and the command that installs it.

    >>> str(missing(ModuleNotFoundError(name="av"), "av", extra="video", purpose="reading a video"))
    'reading a video needs av: pip install "wing-jax[video]"'
    """
    package = module.split(".")[0]
    why = ""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").split(".")[0] != package:
        why = f", which is installed but cannot be imported ({reason(error)})"
    return InputError(f'{purpose} needs {package.replace("_", "-")}{why}: pip install "wing-jax[{extra}]"')
