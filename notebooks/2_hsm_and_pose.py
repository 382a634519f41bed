# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 HSM and pose
# Faces far from the frontal view are rare in every training set. HSM (hard sample mining, called PDB in the paper's
# last version) finds the axis of the shapes along which the pose varies, and repeats the faces of the scarce poses.

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
# ## The axis is found, not chosen
# Shapes are aligned by Procrustes and taken apart by PCA. The paper takes the first component (for AFLW's 19 points the
# second); here it is the one whose coefficients turn their sign when the face is mirrored. The synthetic faces know
# their yaw, so that it can be checked.

# %%
model = wj.balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
yaw = wj.balance.correlation_with_yaw(model.coefficients, faces.angles[:, 0].astype(float))
print(f"axis {model.index + 1} of the PCA, {model.shares[model.index]:.0%} of the variance")
print(f"correlation with the true yaw: {yaw.pearson:.3f} (of ranks: {yaw.spearman:.3f})")

# %% [markdown]
# ## Before and after
# Every bin of |coefficient| is filled up to the largest one by repeating its faces whole times; `cap` bounds how often
# one face may be seen. The repeated faces are not copies: each is augmented anew (notebook 3). `wj.balance.hsm()` is
# all of this as an argument of `wj.fit`.

# %%
counts = wj.balance.duplication_counts(np.abs(model.coefficients), bins=9, cap=10)
wj.report.pose_figure(model, counts, lines=faces.scheme.lines)

# %%
print(wj.balance.pose_histogram(np.abs(model.coefficients), counts, bins=9).table())
order = wj.balance.duplicated_indices(counts)
print(f"an epoch of {len(faces)} faces becomes one of {len(order)}")


# %% [markdown]
# More bins follow the tail more closely; a small cap leaves it scarce.


# %%
def fill(bins, cap):
    repeated = wj.balance.duplication_counts(np.abs(model.coefficients), bins=bins, cap=cap)
    histogram = wj.balance.pose_histogram(np.abs(model.coefficients), repeated, bins=bins)
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
picture = display(fill(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(fill(**{key: each.value for key, each in sliders.items()})), "value")
display(*sliders.values())
