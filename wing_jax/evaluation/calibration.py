"""Fit how sure a localizer's landmarks are, on faces that it was not trained on and on changed copies of them."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from wing_jax.data.face_crops import FaceCrops, crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation.stress import STRESSES, StressedFaces
from wing_jax.geometry import invert, namespace, transform
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.prediction import NEAR
from wing_jax.inference.uncertainty import FEATURES, LOST, Calibration, calibrated_covariance, features, spread
from wing_jax.text import quoted

STEPS = 200  # of L-BFGS, at most
FEWEST = 20  # faces
SMALLEST_SHAPE = 0.1  # of the distribution of the errors
RIDGE = 1e-3  # weight of the squared differences of the landmarks' coefficients
MILD = ("box error", "rotation")  # changes whose mild levels are as usual as unchanged faces
FALSE_ALARMS = 0.01  # share of good faces that may be called invalid
FAILED = 0.1  # NME by the inter-ocular distance beyond which a face is not good


class Sample(NamedTuple):
    """Predicted faces with their errors, in pixels of the last stage's crop.

    Args:
      features: `[n, points, FEATURES]` (`wing_jax.inference.uncertainty.features`).
      errors: from the true to the predicted points, `[n, points, 2]`.
      eyes: the true inter-ocular distance, `[n]`.
      mild: whether the face is unchanged or only mildly changed, `[n]`.
      face: the index of the face, `[n]`.
    """

    features: Float[np.ndarray, "n points features"]
    errors: Float[np.ndarray, "n points 2"]
    eyes: Float[np.ndarray, "n"]
    mild: Any
    face: Int[np.ndarray, "n"]


def calibrate(localizer: Localizer, faces: FaceSet, *, seed: int = 0) -> Localizer:
    """Return the localizer with a calibration fitted on `faces`, which it must not have been trained on.

    Every face is predicted unchanged and with the changes of `wing_jax.evaluation.stress.STRESSES`, so that failures
    are part of the fit. The coefficients maximize the likelihood of the errors under normal distributions.

    Args:
      localizer: its last network must estimate covariances, as the voting network does.
      faces: annotated faces of the same scheme, some hundred if possible; only those with all landmarks are used.
      seed: the random seed of the changes.

    Returns:
      The localizer with the calibration, which `Localizer.save` stores.

    Raises:
      InputError: the network estimates no covariances, the faces are of another scheme, fewer than `FEWEST` have all
        landmarks, or the model fails on all of them.

    >>> from wing_jax.data.load import load_faces
    >>> calibrate(Localizer.load("mtfl"), load_faces("synthetic", "train", count=8))
    Traceback (most recent call last):
    wing_jax.errors.InputError: the faces have the scheme ibug68, the model mtfl5: use faces with its scheme
    """
    if not localizer.stages[-1].network.estimates_covariance:
        raise InputError(
            f"the network {quoted(type(localizer.stages[-1].model).__name__)} estimates no covariances: use a voting "
            "network, or a module whose __call__ has an argument `covariance`"
        )
    if faces.scheme.name != localizer.scheme.name:
        raise InputError(
            f"the faces have the scheme {faces.scheme.name}, the model {localizer.scheme.name}: use faces with its "
            "scheme"
        )
    if (count := int(faces.visible.all(1).sum())) < FEWEST:
        raise InputError(
            f"{count} of the {len(faces)} faces have all landmarks, but a calibration needs {FEWEST} or more: use more "
            "faces that the model was not trained on"
        )
    sample = collect(localizer, faces, seed=seed)
    return dataclasses.replace(localizer, calibration=fit(sample, size=localizer.stages[-1].input_size))


def collect(localizer: Localizer, faces: FaceSet, *, seed: int, retry_invalid: bool = False) -> Sample:
    """Predict the faces, unchanged and changed, and return their errors.

    `retry_invalid`: whether invalid faces are tried again; a calibration is fitted on single attempts.
    """
    localizer = dataclasses.replace(localizer, retry_invalid=retry_invalid)
    crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    left, right = faces.scheme.left_outer, faces.scheme.right_outer
    unchanged = StressedFaces(np.asarray(crops.images), crops.boxes)
    parts = [_predict(localizer, crops, unchanged, eyes=(left, right), mild=True)]
    for change in STRESSES:
        for number, level in enumerate(change.levels):
            random = np.random.default_rng([seed, *change.name.encode(), round(1000 * level)])
            mild = change.name in MILD and number == 0
            parts.append(_predict(localizer, crops, change.apply(crops, level, random), eyes=(left, right), mild=mild))
    sample = Sample(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    known = np.isfinite(sample.errors).all((1, 2)) & np.tile(faces.visible.all(1), len(parts))
    return Sample(*(values[known] for values in sample))


def _predict(
    localizer: Localizer, crops: FaceCrops, changed: StressedFaces, *, eyes: tuple[int, int], mild: bool
) -> Sample:
    located = localizer.locate_details(changed.images, changed.boxes)
    assert located.evidence is not None
    size, count = localizer.stages[-1].input_size, len(crops.points)
    true = crops.points
    if changed.to_face_crop is not None:
        true = np.asarray(transform(np.broadcast_to(np.asarray(invert(changed.to_face_crop)), (count, 2, 3)), true))
    to_crop = np.asarray(invert(located.evidence.crop_to_unit))
    predicted, true = (np.asarray(transform(to_crop, points)) for points in (located.points[-1], true))
    return Sample(
        features=np.asarray(features(located.evidence, size=size)),
        errors=predicted - true,
        eyes=np.linalg.norm(true[:, eyes[0]] - true[:, eyes[1]], axis=-1),
        mild=np.full(count, mild),
        face=np.arange(count),
    )


def fit(sample: Sample, *, size: int) -> Calibration:
    """Fit the coefficients, the distribution of the errors in spreads, and the limit of valid faces.

    Raises:
      InputError: the model fails on all faces.
    """
    weights = fit_weights(sample, size=size)
    covariance = calibrated_covariance(sample.features, weights, size=size)
    spreads = spread(covariance)
    distances, radius = np.linalg.norm(sample.errors, axis=-1), NEAR * sample.eyes[:, None]
    nme = distances.mean(1) / sample.eyes
    good = sample.mild & (nme <= FAILED)
    if not good.any():
        raise InputError(
            f"none of the faces has an error below {FAILED:.0%} of the inter-ocular distance, so that no limit of "
            "valid faces can be found: train the model first, or check the boxes of the faces"
        )
    expected = spreads.mean(1) / size
    limit = float(np.quantile(expected[good], 1 - FALSE_ALARMS))
    return Calibration(
        weights=weights, within=fit_within((radius / spreads).ravel(), (distances <= radius).ravel()), limit=limit
    )


def fit_weights(sample: Sample, *, size: int) -> Float[np.ndarray, "points features 3"]:
    """Return the coefficients that maximize the likelihood of the errors under normal distributions."""
    errors = jnp.asarray(cap_errors(sample.errors / size))
    inputs = jnp.asarray(sample.features)

    def objective(weights: jax.Array) -> jax.Array:
        likelihood = negative_log_likelihood(calibrated_covariance(inputs, weights, size=1), errors).mean()
        differences = weights - weights.mean(0, keepdims=True)
        return likelihood + RIDGE * (differences[:, :-1] ** 2).sum() / len(weights)

    start = np.zeros((errors.shape[1], FEATURES, 3), np.float32)
    start[:, -1, 0] = np.log((np.asarray(errors) ** 2).mean((0, 2)))
    slope = jax.jit(jax.value_and_grad(objective))

    def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = slope(jnp.asarray(flat.reshape(start.shape), jnp.float32))
        return float(value), np.asarray(gradient, np.float64).ravel()

    import scipy.optimize  # slow to import, and changes the filters of warnings

    result = scipy.optimize.minimize(evaluate, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return result.x.reshape(start.shape).astype(np.float32)


def cap_errors(errors: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Shorten the errors, in sides of the crop, that are longer than `LOST` to this length."""
    distances = np.linalg.norm(errors, axis=-1, keepdims=True)
    return errors * np.minimum(1, LOST / np.maximum(distances, 1e-6))


def negative_log_likelihood(
    covariance: Float[Array | np.ndarray, "*n 2 2"], errors: Float[Array | np.ndarray, "*n 2"]
) -> Float[Array | np.ndarray, "*n"]:
    """Return it for errors under normal distributions with these covariances, without the constant.

    >>> negative_log_likelihood(np.diag([4.0, 1.0]), np.array([2.0, 1.0])).round(3).item()
    1.693
    """
    xp = namespace(covariance, errors)
    a, b, d = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    determinant, x, y = a * d - b * b, errors[..., 0], errors[..., 1]
    return 0.5 * xp.log(determinant) + 0.5 * (d * x * x - 2 * b * x * y + a * y * y) / determinant


def fit_within(radii: Float[np.ndarray, "n"], near: Bool[np.ndarray, "n"]) -> tuple[float, float]:
    """Return (scale, shape) such that 1 / (1 + (scale / radius)^shape) is the probability that an error is `near`.

    Args:
      radii: in spreads.
      near: whether the error is at most the radius.

    >>> random = np.random.default_rng(0)
    >>> radii, errors = random.uniform(0.2, 2, 100_000), 0.7 * np.exp(random.logistic(size=100_000) / 3)
    >>> scale, shape = fit_within(radii, errors <= radii)
    >>> round(scale, 1), round(shape, 1)
    (0.7, 3.0)
    """
    import scipy.optimize

    logs, signs = np.log(radii), np.where(near, 1.0, -1.0)

    def evaluate(line: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean negative log likelihood and its gradient."""
        margins = signs * (line[0] * logs + line[1])
        slopes = -signs * np.exp(-np.logaddexp(0, margins))
        return float(np.logaddexp(0, -margins).mean()), np.array([(slopes * logs).mean(), slopes.mean()])

    shape, offset = scipy.optimize.minimize(evaluate, np.array([2.0, 0.0]), jac=True, method="BFGS").x
    shape = max(float(shape), SMALLEST_SHAPE)
    return float(np.exp(-offset / shape)), shape
