"""The command line: `wing-jax train | evaluate | predict | balance | devices`."""

from wing_jax.cli.main import main as main
