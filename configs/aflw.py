"""AFLW, 19 points, with the paper's settings: CNN-6 then CNN-7, Wing loss, SGD, batch 8, 120,000 steps each.

    wing-jax train aflw --root FOLDER
    wing-jax evaluate runs/aflw/model --data aflw --root FOLDER

FOLDER contains `AFLWinfo_release.mat` and the images (`wing_jax.data.readers.aflw`); request AFLW from TU Graz.
For this training run, table 3 of the paper reports 1.65 % (AFLW-Full, by face size, our "box-size"); without the second
stage 1.83 %, without HSM 1.71 % (both stages) and 1.88 % (CNN-6). We could not measure it without the images.

The paper does not specify these settings, so they are our choice: the shape of the decay (exponential), CNN-7's
channels, its Wing parameters and learning rate, and its weaker rotation.
"""

from wing_jax.config import AugmentConfig, BalanceConfig, DataConfig
from wing_jax.presets import paper_recipe

config = paper_recipe(
    name="aflw",
    data=DataConfig(name="aflw"),
    balance=BalanceConfig(method="official", bins=9),
    stage1=dict(
        margin=1.0,  # the data set's own square box
        augment=AugmentConfig(rotation=30.0, translation=0.05, scale=0.05),
    ),
    stage2=dict(
        margin=1.25,  # crop side per larger side of the mean shape
        augment=AugmentConfig(rotation=10.0, translation=0.05, scale=0.05),
    ),
)
