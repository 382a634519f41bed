"""The paper's results: Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018, tables 1 to 4.

Tables 1 to 3: mean error on AFLW-Full (20,000 training and 4,386 test faces, 19 points), normalized by the size of the
face, in percent. The paper calls the method PDB (pose-based data balancing); here it is HSM, the name in its first
versions.
"""

TITLES = {
    "l2": "L2",
    "l1": "L1",
    "smooth_l1": "smooth L1",
    "wing": "Wing",
    "rectified_wing": "rectified Wing",
    "soft_wing": "soft Wing",
}


def title_of(loss: str) -> str:
    """Return the title of a loss in tables and figures: the paper's name, or the registered name for other losses."""
    return TITLES.get(loss, loss)


TABLE3: dict[str, dict[str, float]] = {
    "CNN-6": {"l2": 2.41, "l1": 2.00, "smooth_l1": 2.02, "wing": 1.88},
    "CNN-6 + HSM": {"l2": 2.23, "l1": 1.89, "smooth_l1": 1.91, "wing": 1.83},
    "CNN-6/7": {"l2": 2.06, "l1": 1.82, "smooth_l1": 1.84, "wing": 1.71},
    "CNN-6/7 + HSM": {"l2": 1.94, "l1": 1.73, "smooth_l1": 1.76, "wing": 1.65},
}
TABLE1 = TABLE3["CNN-6"]

WIDTHS = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0)  # pixels of a 64 x 64 crop
EPSILONS = (0.5, 1.0, 2.0, 3.0)  # pixels of a 64 x 64 crop
TABLE2: dict[float, tuple[float, ...]] = {  # a row for each epsilon, a column for each width; CNN-6
    0.5: (1.95, 1.92, 1.92, 1.94, 1.97, 1.94),
    1.0: (1.95, 1.91, 1.91, 1.90, 1.90, 1.95),
    2.0: (1.98, 1.92, 1.91, 1.88, 1.90, 1.98),
    3.0: (2.02, 1.96, 1.93, 1.91, 1.89, 2.02),
}

# 300-W, NME by the inter-pupil distance (%): common, challenging, full. Trained on 3,148 faces.
TABLE4: dict[str, tuple[float | None, float | None, float | None]] = {
    "RCPR": (6.18, 17.26, 8.35),
    "CFAN": (5.50, 16.78, 7.69),
    "ESR": (5.28, 17.00, 7.58),
    "SDM": (5.60, 15.40, 7.52),
    "ERT": (None, None, 6.40),
    "CFSS": (4.73, 9.98, 5.76),
    "TCDCN": (4.80, 8.60, 5.54),
    "LBF": (4.95, 11.98, 6.32),
    "3DDFA": (6.15, 10.59, 7.01),
    "3DDFA + SDM": (5.53, 9.56, 6.31),
    "DDN": (None, None, 5.65),
    "RAR": (4.12, 8.35, 4.94),
    "DeFA": (5.37, 9.38, 6.10),
    "TR-DRN": (4.36, 7.56, 4.99),
    "CNN-6/7 + HSM (L2)": (4.18, 8.19, 4.97),
    "CNN-6/7 + HSM (L1)": (3.58, 7.02, 4.26),
    "CNN-6/7 + HSM (smooth L1)": (3.57, 7.08, 4.26),
    "CNN-6/7 + HSM (Wing)": (3.27, 7.18, 4.04),
}
