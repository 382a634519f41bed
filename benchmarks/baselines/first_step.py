"""Train the first stage of the preset "w300" on a packed set, say "first step done" when it is, and stop there.

It is what the command `wing-jax train` does up to that point, but for the run's folder.
"""

import dataclasses
import json
import os
import sys


def main() -> None:
    """Train one step."""
    given = json.loads(sys.argv[1])
    from wing_jax.runtime import devices

    devices.prepare_xla()
    from wing_jax import presets
    from wing_jax.config import DataConfig

    base = presets.load("w300")
    stage = dataclasses.replace(base.stage1, steps=1, evaluate_every=1)
    data = DataConfig(name="packed", root=given["packed"])
    config = dataclasses.replace(base, data=data, stage1=stage, stage2=None)
    with devices.usual_settings():
        take_one(config)
    print("first step done", flush=True)
    os._exit(0)


def take_one(config) -> None:
    """One step, and wait until it is done."""
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
