"""The config of a stage that trains in seconds."""

from wing_jax.config import AugmentConfig, LossConfig, ModelConfig, OptimizerConfig, StageConfig

STAGE = StageConfig(
    input_size=16,
    margin=1.3,
    model=ModelConfig(params={"channels": (4, 8), "hidden": 8}, output_bias="mean_shape"),
    loss=LossConfig(name="wing", params={"width": 10.0, "epsilon": 2.0}, reduction="mean"),
    augment=AugmentConfig(rotation=5.0, translation=0.02, scale=0.02),
    optimizer=OptimizerConfig(
        name="sgd", learning_rate=1e-2, final_learning_rate=1e-3, decay="cosine", weight_decay=1e-2
    ),
    batch_size=4,
    steps=6,
    evaluate_every=3,
)
