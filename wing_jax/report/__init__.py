"""Pictures, plots, tables and a page that show how accurate a model is.

    wing_jax.report.annotation_sheet(faces)                        # faces with their points in one picture
    wing_jax.report.curves_figure(errors, {"Wing": curves(loss, errors)})     # losses (`wing_jax.analysis`)
    wing_jax.report.pose_figure(model, counts)                     # a balanced epoch (`wing_jax.balance`)

`Evaluation.plot` and `Evaluation.report` make the curves and the page of an evaluation.
"""

from wing_jax.report.analysis import curves_figure as curves_figure
from wing_jax.report.faces import annotation_sheet as annotation_sheet
from wing_jax.report.pose import pose_figure as pose_figure
