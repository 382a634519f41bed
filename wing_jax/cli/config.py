"""The command `wing-jax config [NAME]`."""

import sys

from wing_jax import presets
from wing_jax.errors import InputError

USAGE = "usage: wing-jax config NAME > my.py, edit my.py, then: wing-jax train my.py. Presets:"


def run(arguments: list[str]) -> None:
    """Print the config file of a preset, or, without a name, the list of presets."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("\n".join([USAGE, "", *(f"  {name:9} {presets.summary(name)}" for name in presets.names())]))
        return
    if len(arguments) > 1:
        raise InputError(f"wing-jax config takes one name, not {len(arguments)}: {', '.join(presets.names())}")
    sys.stdout.write(presets.source(arguments[0]))
