"""Make batches of augmented crops with albumentations in the worker processes of a PyTorch DataLoader."""

import cv2
import numpy as np
from face_file import HALVED, crop_side, jpeg_files, points_at, read
from worker import Ready, serve, stream

WORKERS = 2
PREFETCHED = 4  # batches a worker


class Faces:
    """A map-style data set of augmented crops and points."""

    def __init__(self, settings: dict):
        faces = read(settings["data"])
        self.files = jpeg_files(faces) if settings["source"] == "jpeg" else None
        self.images = faces["images"]
        self.face_crop = HALVED if self.files else self.images.shape[1]
        self.points, self.flip = points_at(faces, self.face_crop), faces["flip"]
        self.compose = compose(settings["augment"], face_crop=self.face_crop, size=settings["size"])
        self.probability = settings["augment"]["flip"]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, points = self.picture(index), self.points[index]
        if np.random.random() < self.probability:  # noqa: NPY002  # albumentations' flip does not swap points
            image, points = image[:, ::-1], points[self.flip] * (-1, 1) + (self.face_crop - 1, 0)
        augmented = self.compose(image=np.ascontiguousarray(image), keypoints=points)
        return augmented["image"], np.asarray(augmented["keypoints"], np.float32)

    def picture(self, index: int) -> np.ndarray:
        """Return the face crop, decoded if it is a JPEG file."""
        if not self.files:
            return self.images[index]
        half = cv2.imdecode(np.frombuffer(self.files[index], np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
        return cv2.cvtColor(half, cv2.COLOR_BGR2RGB)


def compose(augment: dict, *, face_crop: int, size: int):
    """Return all augmentations except the flip, as albumentations' transforms."""
    import albumentations as A

    share, occluded = augment["translation"] * crop_side(face_crop) / face_crop, augment.get("occlusion", 0)
    moves = A.Affine(
        rotate=(-augment["rotation"], augment["rotation"]),
        translate_percent=(-share, share),
        scale=(1 - augment["scale"], 1 + augment["scale"]),
        border_mode=cv2.BORDER_REPLICATE,
        p=1,
    )
    steps = [moves, A.CenterCrop(crop_side(face_crop), crop_side(face_crop)), A.Resize(size, size, cv2.INTER_AREA)]
    sigma = augment["blur_sigma"]
    steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=augment["blur"]))
    if color := augment.get("color", 0):
        steps.append(A.RandomBrightnessContrast(0.7 * color, color, p=1))
        steps.append(A.MultiplicativeNoise((1 - 0.3 * color, 1 + 0.3 * color), per_channel=True, p=1))
    if occluded:
        side = (0.02, augment["occlusion_side"])
        steps.append(A.CoarseDropout((1, 1), side, side, fill="random_uniform", p=occluded))
    return A.Compose(steps, keypoint_params=A.KeypointParams(format="xy", remove_invisible=False))


def start_worker(_: int) -> None:
    """Use one thread in each worker process."""
    cv2.setNumThreads(0)


def prepare(settings: dict) -> Ready:
    """Start the worker processes and let them run for some batches."""
    import torch
    from torch.utils.data import DataLoader, RandomSampler

    torch.set_num_threads(1)
    faces = Faces(settings)
    loader = DataLoader(
        faces,
        batch_size=settings["batch"],
        sampler=RandomSampler(range(len(faces)), replacement=True, num_samples=1 << 28),
        num_workers=WORKERS,
        prefetch_factor=PREFETCHED,
        worker_init_fn=start_worker,
        multiprocessing_context="fork",
    )
    batches = iter(loader)
    check(*next(batches), settings)
    warm = stream(batches.__next__, drained=WORKERS * PREFETCHED + WORKERS)
    warm(8)
    return Ready(seconds=warm, packages=["torch", "albumentations", "opencv-python-headless"])


def check(images, points, settings: dict) -> None:
    """Check that the batch has the same format as those of the other baselines."""
    side = settings["size"]
    assert images.shape == (settings["batch"], side, side, 3), images.shape
    assert images.numpy().dtype == np.uint8, images.dtype
    assert 0.9 * side > float(points.std(1).mean()) > 0.1 * side, "points are not in pixels of the crop"


if __name__ == "__main__":
    serve(prepare)
