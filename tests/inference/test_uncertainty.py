"""Covariances and their calibration: matrix logarithms, features, the table of a bundle, predictions."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg

from wing_jax.errors import InputError
from wing_jax.inference.prediction import NEAR, Prediction
from wing_jax.inference.uncertainty import (
    FEATURES,
    LOST,
    Calibration,
    Evidence,
    calibrated_covariance,
    exp_covariance,
    expected_error,
    features,
    log_covariance,
    spread,
)
from wing_jax.schemes import MTFL_5

RANDOM = np.random.default_rng(0)


def sample_covariances(*shape):
    factors = RANDOM.normal(size=(*shape, 2, 2))
    return factors @ factors.swapaxes(-1, -2) + 0.05 * np.eye(2)


def as_matrix(m, a, b):
    return np.array([[m + a, b], [b, m - a]])


def test_the_logarithm_is_that_of_the_matrix():
    for covariance, (m, a, b) in zip(covariances := sample_covariances(20), log_covariance(covariances), strict=True):
        np.testing.assert_allclose(as_matrix(m, a, b), scipy.linalg.logm(covariance), atol=1e-4)


def test_the_exponential_inverts_the_logarithm():
    covariances = sample_covariances(50)
    np.testing.assert_allclose(exp_covariance(log_covariance(covariances)), covariances, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("covariance", [np.eye(2) * 3, np.zeros((2, 2)), np.diag([4.0, 0.0]), np.ones((2, 2))])
def test_covariances_without_direction_or_extent_are_finite(covariance):
    result = exp_covariance(log_covariance(covariance))
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, covariance, atol=1e-4)


def make_evidence(count=3, points=4):
    turn = np.array([[0.0, -2.0, 5.0], [2.0, 0.0, 7.0]])  # a quarter turn, twice the size
    return Evidence(
        covariance=sample_covariances(count, points).astype(np.float32) * 30,
        moved=RANDOM.normal(0, 3, (count, points, 2)).astype(np.float32),
        crop_to_unit=np.broadcast_to(turn, (count, 2, 3)).astype(np.float32),
    )


def test_features_are_the_logarithm_the_distance_moved_and_their_means():
    evidence = make_evidence()
    result = features(evidence, size=100)
    assert result.shape == (3, 4, FEATURES)
    values, vectors = np.linalg.eigh(evidence.covariance[1, 2].astype(float) / 100**2)
    logarithm = vectors @ np.diag(np.log(values)) @ vectors.T
    np.testing.assert_allclose(as_matrix(*result[1, 2, :3]), logarithm, atol=1e-4)
    np.testing.assert_allclose(result[1, :, 3], result[1, :, 0].mean(), rtol=1e-5)
    distance = np.log(np.linalg.norm(evidence.moved[1], axis=-1) / 100 + 1e-3)
    np.testing.assert_allclose(result[1, :, 4], distance, rtol=1e-4)
    np.testing.assert_allclose(result[1, :, 5], distance.mean(), rtol=1e-4)
    assert (result[..., 6] == 1).all()


def identity(points=4, *, limit=1.0):
    """A calibration that keeps the covariance of the network, if it is far below `LOST`."""
    weights = np.zeros((points, FEATURES, 3), np.float32)
    weights[:, [0, 1, 2], [0, 1, 2]] = 1
    return Calibration(weights=weights, within=(1.0, 2.0), limit=limit)


def test_unit_coefficients_keep_the_covariance_and_it_turns_with_the_crop():
    evidence = make_evidence()
    in_crop = calibrated_covariance(features(evidence, size=100), identity().weights, size=100)
    area = np.sqrt(np.linalg.det(evidence.covariance / 100**2))
    expected = evidence.covariance / (1 + area / (LOST**2 / 2))[..., None, None]
    np.testing.assert_allclose(in_crop, expected, rtol=2e-3, atol=1e-3)
    result = identity().covariance(evidence, size=100)
    (a, b), (_, d) = expected[0, 0]
    np.testing.assert_allclose(result[0, 0], 4 * np.array([[d, -b], [-b, a]]), rtol=5e-3, atol=5e-3)
    sides = np.sqrt(np.trace(expected, axis1=-2, axis2=-1)).mean(1) / 100
    np.testing.assert_allclose(expected_error(evidence, identity().weights, size=100), sides, rtol=1e-3)


def test_spreads_of_round_distributions_stay_below_that_of_a_lost_landmark():
    evidence = make_evidence()
    huge = evidence._replace(covariance=np.broadcast_to(1e6 * np.eye(2, dtype=np.float32), (3, 4, 2, 2)))
    spreads = spread(calibrated_covariance(features(huge, size=100), identity().weights, size=100))
    np.testing.assert_allclose(spreads, 100 * LOST, rtol=1e-3)


def test_a_calibration_is_stored_as_a_table_and_an_array():
    calibration = identity(limit=0.25)
    copy = Calibration.from_table(calibration.to_table(), calibration.weights)
    assert copy == calibration
    with pytest.raises(InputError, match=r"the calibration is \{.*\}, not a table with within \(scale and shape\) and"):
        Calibration.from_table({"within": [1.0]}, calibration.weights)
    with pytest.raises(InputError, match=r"the weights of the calibration are \(4, 2, 3\), not \[points, 7, 3\]"):
        dataclasses.replace(calibration, weights=calibration.weights[:, :2])


def make_prediction(**changes):
    points = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]] * 2)  # 40 pixels between the eyes
    covariance = np.broadcast_to(np.diag([9.0, 16.0]).astype(np.float32), (2, 5, 2, 2))
    values = {"covariance": covariance, "calibration": identity(5), "expected_error": np.array([0.5, 1.5])}
    return Prediction(points=points, scheme=MTFL_5, **{**values, **changes})


def test_spread_confidence_and_validity_of_a_prediction():
    prediction = make_prediction()
    np.testing.assert_allclose(prediction.spread, 5, rtol=1e-6)
    np.testing.assert_allclose(spread(np.eye(2)[None] * 8), [4])
    expected = 1 / (1 + (5 / (NEAR * 40)) ** 2)
    np.testing.assert_allclose(prediction.confidence, expected, rtol=1e-6)
    assert prediction.valid.tolist() == [True, False]


def test_without_a_calibration_there_is_no_uncertainty():
    prediction = make_prediction(calibration=None, covariance=None, expected_error=None)
    assert prediction.spread is None
    assert prediction.confidence is None
    assert prediction.valid is None
    record = prediction.record(1, box=np.zeros(4, np.float32))
    assert record.number == 2
    assert record.table().keys() == {"box", "points"}


def test_a_record_has_the_uncertainty_of_its_face():
    prediction = make_prediction()
    record = prediction.record(1, box=np.zeros(4, np.float32), number=7, score=0.5)
    assert (record.number, record.valid, record.score) == (7, False, 0.5)
    table = record.table()
    assert table["valid"] is False
    assert table["spread"] == [5.0] * 5
    assert table["confidence"] == pytest.approx([float(prediction.confidence[1, 0])] * 5, abs=1e-4)
    assert record.mean_confidence == pytest.approx(float(prediction.confidence[1].mean()))
