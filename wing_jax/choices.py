"""The choices that configs, commands and functions share. Nothing is imported for them: configs are light."""

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["sum_over_points_mean_over_batch", "mean"]  # of a loss over a batch
Input: TypeAlias = Literal["device", "tfdata"]  # where a training's batches are made
Parallel: TypeAlias = Literal["jit", "pmap"]  # how a step runs on several devices
Store: TypeAlias = Literal["pixels", "jpeg"]  # how a training's faces are held in host memory
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]  # of activations
Center: TypeAlias = Literal["box", "shape"]  # of the first stage's crop
Stage2Crops: TypeAlias = Literal["predicted", "annotated"]  # by which points the second stage's crops are made
Occluded: TypeAlias = Literal["keep", "ignore"]  # points that are annotated as occluded
PictureSize: TypeAlias = Literal["check", "rescale"]  # where a picture has another size than its annotation says
LARGEST_INPUT = 4_096  # pixels: the side of a network's crop
