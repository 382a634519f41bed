# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] # 2 HSM and pose Profile views are rare in most training sets. HSM (hard sample mining, called PDB in
# the paper's last version) finds the direction in which face shapes vary with the pose, and duplicates the faces with
# rare poses.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import IntSlider

import wing_jax as wj

faces = wj.load_faces("synthetic", "train", count=300)

# %%
plt.figure(figsize=(12, 2.4))
plt.imshow(wj.report.annotation_sheet(faces.take(np.arange(8)), columns=8, numbers=False))
plt.axis("off")
plt.show()

# %% [markdown]
# ## The pose axis
# Shapes are aligned with Procrustes analysis and decomposed with PCA. The paper uses the first component (for AFLW's 19
# points the second). Here it is selected automatically: the component whose coefficients change their sign when the
# face is mirrored. The true yaw of synthetic faces is available, so we can check the result.

# %%
model = wj.balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
yaw = wj.balance.correlation_with_yaw(model.coefficients, faces.angles[:, 0].astype(float))
print(f"axis {model.index + 1} of the PCA, {model.shares[model.index]:.0%} of the variance")
print(f"correlation with the true yaw: {yaw.pearson:.3f} (of ranks: {yaw.spearman:.3f})")

# %% [markdown]
# ## Before and after
# HSM repeats the faces of each bin of |coefficient| until the bin is about as large as the largest one; `cap` limits
# how often a face is repeated. The repetitions are not identical, because each is augmented differently (notebook 3).
# Pass `wj.balance.hsm()` to `wj.fit` to use it in training.

# %%
counts = wj.balance.duplication_counts(np.abs(model.coefficients), bins=9, cap=10)
wj.report.pose_figure(model, counts, lines=faces.scheme.lines)

# %%
print(wj.balance.pose_histogram(np.abs(model.coefficients), counts, bins=9).table())
order = wj.balance.duplicated_indices(counts)
print(f"an epoch grows from {len(faces)} to {len(order)} faces")


# %% [markdown]
# With more bins, rare poses are balanced more precisely; with a small cap, they stay rare.


# %%
def plot_balance(bins, cap):
    new_counts = wj.balance.duplication_counts(np.abs(model.coefficients), bins=bins, cap=cap)
    histogram = wj.balance.pose_histogram(np.abs(model.coefficients), new_counts, bins=bins)
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    axes.stairs(histogram.before, histogram.edges, fill=True, alpha=0.4, label="before")
    axes.stairs(histogram.after, histogram.edges, linewidth=2, label="after")
    axes.legend(frameon=False)
    axes.set(xlabel="|pose coefficient|", ylabel="faces")
    plt.close(figure)
    return figure


sliders = {
    "bins": IntSlider(9, min=3, max=21, description="bins"),
    "cap": IntSlider(10, min=1, max=40, description="cap"),
}
picture = display(plot_balance(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(plot_balance(**{key: s.value for key, s in sliders.items()})), "value")
display(*sliders.values())
