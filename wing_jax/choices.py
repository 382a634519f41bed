"""The choices shared by configs, commands and functions. Imports only `typing`, to keep configs light."""

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["sum_over_points_mean_over_batch", "mean"]  # of a loss, over a batch
Input: TypeAlias = Literal["device", "tfdata"]  # where training batches are made
Parallel: TypeAlias = Literal["jit", "pmap"]  # how a step runs on several devices
Store: TypeAlias = Literal["pixels", "jpeg"]  # how training faces are stored in host memory
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]  # of activations
OutputBias: TypeAlias = Literal["mean_shape", "zero"]  # initial output of a network
Processes: TypeAlias = Literal["one", "many"]  # processes that train together
Center: TypeAlias = Literal["box", "shape"]  # of the first stage's crop
Statistics: TypeAlias = Literal["keep", "renew"]  # of BatchNorm, at the start from a trained model
Stage2Crops: TypeAlias = Literal["predicted", "annotated"]  # points that the second stage's crops are made from
Landmarks: TypeAlias = Literal["3d", "2d"]  # of the jaw: fixed points of the head, or along the visible outline
Occluded: TypeAlias = Literal["keep", "ignore"]  # what to do with points annotated as occluded
PictureSize: TypeAlias = Literal["check", "rescale"]  # for a picture whose size differs from its annotation
LARGEST_INPUT = 4_096  # pixels, the side of a network's crop
