"""Train the first stage of configs/w300.py on a packed set, say "first step done" when it is, and stop there.

It is `wing-jax train` up to that point: the same imports, flags, data, compilation and step.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

CONFIG = Path(__file__).parents[2] / "configs" / "w300.py"


def main() -> None:
    """Train one step."""
    given = json.loads(sys.argv[1])
    from wing_jax.train import devices

    devices.prepare_xla()
    from wing_jax.config import DataConfig, load_config
    from wing_jax.train import stage as stages
    from wing_jax.train.run import train

    stages.make_engine = announcing(stages.make_engine)
    config = load_config(CONFIG)
    stage = dataclasses.replace(config.stage1, steps=1, evaluate_every=1)
    data = DataConfig(name="packed", root=given["packed"])
    train(dataclasses.replace(config, name=given["name"], output=given["output"], data=data, stage1=stage, stage2=None))


def announcing(make_engine):
    """`make_engine`, whose engine says so when it has taken a step, and ends the process."""

    def made(*arguments, **keywords):
        engine = make_engine(*arguments, **keywords)
        advance = engine.advance

        def announced(state, first: int, last: int):
            import jax

            jax.block_until_ready(advance(state, first, last))
            print("first step done", flush=True)
            os._exit(0)

        engine.advance = announced
        return engine

    return made


if __name__ == "__main__":
    main()
