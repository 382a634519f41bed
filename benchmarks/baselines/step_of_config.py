"""Training steps of one stage of a config, on synthetic faces."""

import dataclasses

from worker import Ready, serve, timed

FACES = 100


def prepare(settings: dict) -> Ready:
    """Compile the step and take the first."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    import jax
    from wing_jax.train.run import first_task, read_corpus
    from wing_jax.train.stage import make_engine

    from wing_jax.config import DataConfig, StageConfig, load_config

    config = load_config(settings["config"])
    chosen = getattr(config, settings["stage"])
    stage = StageConfig(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(StageConfig)})
    data = DataConfig(name="synthetic", train_faces=FACES, validation=0.2)
    config = dataclasses.replace(config, data=data, more=(), stage1=stage, stage2=None)
    task = first_task(config, read_corpus(config))
    engine = make_engine(task, config, devices.make_mesh(1))
    state, number = engine.place(task.state(seed=0)), 0

    def advance(count: int) -> None:
        nonlocal state, number
        state, _ = engine.advance(state, number, number + count)
        number += count
        jax.block_until_ready(state)

    advance(2)
    return Ready(seconds=timed(advance), packages=("jax", "jaxlib", "flax"))


if __name__ == "__main__":
    serve(prepare)
