"""Pose-based data balancing (also hard sample mining, HSM): how often each face appears in an epoch.

Pass it to training as `wing_jax.fit(..., balance=hsm())`.

    model = pose_axis(points, visible, flip_permutation=scheme.flip)
    copies = duplicated_indices(duplication_counts(np.abs(model.coefficients), bins=9))

`wing_jax.balance.pose` and `duplication` hold the paper's method, `wing_jax.balance.official` the authors' code.
"""

from wing_jax.balance.duplication import PoseHistogram as PoseHistogram
from wing_jax.balance.duplication import duplicated_indices as duplicated_indices
from wing_jax.balance.duplication import duplication_counts as duplication_counts
from wing_jax.balance.duplication import pose_edges as pose_edges
from wing_jax.balance.duplication import pose_histogram as pose_histogram
from wing_jax.balance.official import OfficialBalance as OfficialBalance
from wing_jax.balance.official import official_duplication as official_duplication
from wing_jax.balance.official import official_hsm as official_hsm
from wing_jax.balance.pose import Balance as Balance
from wing_jax.balance.pose import PoseModel as PoseModel
from wing_jax.balance.pose import YawCorrelation as YawCorrelation
from wing_jax.balance.pose import correlation_with_yaw as correlation_with_yaw
from wing_jax.balance.pose import hsm as hsm
from wing_jax.balance.pose import pose_axis as pose_axis
from wing_jax.balance.pose import pose_coefficients as pose_coefficients
