"""The command line: `wing-jax train | evaluate | predict | data | ...`; `wing-jax --help` lists all commands."""

from wing_jax.cli.main import main as main
