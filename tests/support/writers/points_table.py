"""Tables of points: `train.csv` and `test.csv`, pictures in `pictures/`."""

from pathlib import Path

import cv2

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import MTFL_5, Scheme


def write_points_table(
    folder: Path, *, seed: int = 0, scheme: Scheme = MTFL_5, style: str = "numbers", delimiter: str = ","
) -> dict[str, list[SmallFace]]:
    """Write five faces in a style of columns.

    `style` "numbers": x0, y0, v0 ... (v: 2, but 1 for the first point), box, photo, subset; "names": only NAME_x,
    NAME_y; "hrnet": original_0_x ... after scale and center.
    """
    faces = small_faces(scheme, 5, seed=seed)
    splits = {"train": faces[:3], "test": faces[3:]}
    (folder / "pictures").mkdir(parents=True)
    indices = range(scheme.points)
    header = {
        "numbers": ["image", *(f"{axis}{i}" for i in indices for axis in "xyv"), "box_x0", "box_y0", "box_x1", "box_y1",
                    "photo", "subset"],
        "names": [*(f"{name}_{axis}" for name in scheme.names for axis in "xy"), "filename"],
        "hrnet": ["image_name", "scale", "center_w", "center_h", *(f"original_{i}_{a}" for i in indices for a in "xy")],
    }[style]  # fmt: skip
    for split, members in splits.items():
        lines = [header]
        for number, face in enumerate(members):
            name = f"pictures/{split}_{number}.png"
            cv2.imwrite(str(folder / name), face.image[:, :, ::-1])
            pairs = [[repr(x), repr(y)] for x, y in face.points.tolist()]
            plain = [cell for pair in pairs for cell in pair]
            with_states = [cell for i, pair in enumerate(pairs) for cell in (*pair, "1" if i == 0 else "2")]
            lines.append({
                "numbers": [name, *with_states, *map(repr, face.box.tolist()), f"photo {number}", "indoor"],
                "names": [*plain, name],
                "hrnet": [name, "1.5", "48", "40", *plain],
            }[style])  # fmt: skip
        (folder / f"{split}.csv").write_text("".join(delimiter.join(line) + "\n" for line in lines))
    return splits
