"""Run training steps of one stage of a config on synthetic faces."""

import dataclasses

from worker import Ready, serve, timed

FACES = 100


def prepare(settings: dict) -> Ready:
    """Compile the step and take the first."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    import jax

    from wing_jax.config import DataConfig, StageConfig
    from wing_jax.config_files import load_config
    from wing_jax.from_config.recipe import mesh_of, settings_of
    from wing_jax.from_config.train import first_setup, training_data
    from wing_jax.train.setup import make_runner

    config = load_config(settings["config"])
    chosen = getattr(config, settings["stage"])
    stage = StageConfig(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(StageConfig)})
    data = DataConfig(name="synthetic", train_faces=FACES, validation=0.2)
    config = dataclasses.replace(config, data=data, extra_data=(), stage1=stage, stage2=None, devices=1)
    setup = first_setup(config, training_data(config))
    runner = make_runner(setup, settings_of(config, mesh_of(config)))
    state, number = runner.place(setup.state(seed=0)), 0

    def advance(count: int) -> None:
        nonlocal state, number
        state, _ = runner.advance(state, number, number + count)
        number += count
        jax.block_until_ready(state)

    advance(2)
    return Ready(seconds=timed(advance), packages=("jax", "jaxlib", "flax"))


if __name__ == "__main__":
    serve(prepare)
