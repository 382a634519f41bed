"""Train the first stage of configs/w300.py on a packed set, say "first step done" when it is, and stop there.

It is the command `wing-jax train` up to that point.
"""

import json
import os
import sys
from pathlib import Path

W300 = Path(__file__).parents[2] / "configs" / "w300.py"
CONFIG = f"""import dataclasses
from wing_jax.config import DataConfig, load_config
base = load_config({str(W300)!r})
stage = dataclasses.replace(base.stage1, steps=1, evaluate_every=1)
config = dataclasses.replace(base, data=DataConfig(name="packed"), stage1=stage, stage2=None)
"""


def main() -> None:
    """Train one step."""
    given = json.loads(sys.argv[1])
    config = Path(given["output"], f"{given['name']}.py")
    config.parent.mkdir(exist_ok=True)
    config.write_text(CONFIG)
    from wing_jax import cli
    from wing_jax.train import stage as stages

    stages.make_engine = announcing(stages.make_engine)
    words = ["--name", given["name"], "--output", given["output"], "--data.root", given["packed"]]
    cli.main(["train", str(config), *words])


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
