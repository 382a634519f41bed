"""Your own faces, any number of points: start from a trained model, with its networks.

    wing-jax train finetune --name mine --data pts --root faces/train --scheme mine.toml
    wing-jax evaluate runs/mine/model --data pts --root faces/test --scheme mine.toml

It starts from the pretrained model `w300`; `--start` names another one, or the folder of your own. The networks, the
sizes of their crops and the margins are those of the trained model. docs/how-to/start-from-a-model.md explains the
options.
"""

from wing_jax.config import AugmentConfig, DataConfig, ModelConfig
from wing_jax.presets import strong_recipe
from wing_jax.presets.recipes import adamw

trained = dict(
    input_size=0,  # that of the trained model
    margin=0.0,  # that of the trained model
    model=ModelConfig(name="trained", output_bias="mean_shape"),
)

config = strong_recipe(
    name="finetune",
    data=DataConfig(name="pts"),
    start="w300",
    optimizer=adamw(warmup=100, ema=0.99),  # for few steps
    stage1=dict(
        **trained,
        augment=AugmentConfig(rotation=20.0, translation=0.06, scale=0.1, color=0.2, occlusion=0.2),
        steps=1_000,
        evaluate_every=100,
    ),
    stage2=dict(
        **trained,
        augment=AugmentConfig(rotation=10.0, translation=0.04, scale=0.06, color=0.2, occlusion=0.2),
        steps=2_000,
        evaluate_every=200,
        crops_per_face=8,
    ),
)
