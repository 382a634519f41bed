"""Train one step of the first stage of the preset "w300" on a packed set, print "first step done", and exit.

This is the same as the start of the command `wing-jax train`, but without a run folder.
"""

import dataclasses
import json
import os
import sys


def main() -> None:
    """Train one step."""
    settings = json.loads(sys.argv[1])
    from wing_jax.runtime import devices

    devices.prepare_xla()
    from wing_jax import presets
    from wing_jax.config import DataConfig

    base = presets.load("w300")
    stage = dataclasses.replace(base.stage1, steps=1, evaluate_every=1)
    data = DataConfig(name="packed", root=settings["packed"])
    config = dataclasses.replace(base, data=data, stage1=stage, stage2=None)
    with devices.default_settings():
        take_step(config)
    print("first step done", flush=True)
    os._exit(0)


def take_step(config) -> None:
    """Take one step and wait until it is complete."""
    import jax

    from wing_jax.from_config.recipe import mesh_of, settings_of
    from wing_jax.from_config.train import first_setup, training_data
    from wing_jax.train.setup import make_runner

    settings = settings_of(config, mesh_of(config))
    setup = first_setup(config, training_data(config))
    runner = make_runner(setup, settings)
    jax.block_until_ready(runner.advance(runner.place(setup.state(seed=config.seed)), 0, 1))


if __name__ == "__main__":
    main()
