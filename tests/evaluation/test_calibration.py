"""Fitting the calibration: known covariances are recovered, and a small network is calibrated end to end."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from wing_jax.cli import main
from wing_jax.data.face_crops import crop_faces, to_image
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import write_pts
from wing_jax.errors import InputError
from wing_jax.evaluation import calibrate
from wing_jax.evaluation.calibration import Sample, collect, fit, fit_weights, fit_within
from wing_jax.evaluation.stress import STRESSES
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.prediction import NEAR
from wing_jax.inference.uncertainty import FEATURES, LOST, Calibration, calibrated_covariance, spread
from wing_jax.models import PlainRegressor, VotingRegressor
from wing_jax.schemes import IBUG_68

POINTS, SIZE = 3, 100
RANDOM = np.random.default_rng(0)


def sample_errors(count=4000, *, size=SIZE, seed=0):
    """Return a sample whose errors are normal with covariances that are log-linear in the features, and these."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, POINTS, FEATURES)).astype(np.float32)
    features[..., -1] = 1
    weights = random.normal(0, 0.15, (POINTS, FEATURES, 3)).astype(np.float32)
    weights[:, -1, 0] = 2 * np.log(0.02)
    covariance = calibrated_covariance(features, weights, size=size)
    factors = np.linalg.cholesky(covariance)
    errors = (factors @ random.normal(size=(count, POINTS, 2, 1)))[..., 0]
    sample = Sample(
        features=features, errors=errors, eyes=np.full(count, 40.0), mild=np.ones(count, bool), face=np.arange(count)
    )
    return sample, covariance


@pytest.mark.slow
def test_the_covariances_of_the_errors_are_recovered():
    sample, expected = sample_errors()
    found = calibrated_covariance(sample.features, fit_weights(sample, size=SIZE), size=SIZE)
    ratios = np.linalg.solve(expected, found)  # the identity
    np.testing.assert_allclose(np.median(ratios, axis=0), np.broadcast_to(np.eye(2), (POINTS, 2, 2)), atol=0.06)
    assert np.quantile(spread(found) / spread(expected), [0.05, 0.95]) == pytest.approx([1, 1], abs=0.12)


@pytest.mark.slow
def test_lost_landmarks_do_not_determine_the_fit():
    sample, _ = sample_errors(1000)
    lost = sample.errors.copy()
    lost[:20] *= 1000
    capped = lost / np.maximum(1, np.linalg.norm(lost, axis=-1, keepdims=True) / (LOST * SIZE))
    np.testing.assert_allclose(
        fit_weights(sample._replace(errors=lost), size=SIZE),
        fit_weights(sample._replace(errors=capped), size=SIZE),
        atol=1e-3,
    )


def test_the_distribution_is_the_most_likely_log_logistic_one():
    radii = RANDOM.uniform(0.3, 2, 5000)
    near = scipy.stats.fisk.rvs(2.5, scale=0.7, size=5000, random_state=0) <= radii

    def likelihood(line):
        within = scipy.stats.fisk.cdf(radii, line[1], scale=line[0])
        return -np.log(np.where(near, within, 1 - within)).sum()

    found = scipy.optimize.minimize(likelihood, (1, 1), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-6})
    scale, shape = fit_within(radii, near)
    assert (scale, shape) == pytest.approx(tuple(found.x), rel=1e-3)
    calibration = Calibration(weights=np.zeros((1, FEATURES, 3), np.float32), within=(scale, shape), limit=1.0)
    np.testing.assert_allclose(calibration.probability(radii), scipy.stats.fisk.cdf(radii, shape, scale=scale))
    assert calibration.probability(np.zeros(1)) == 0


@pytest.mark.parametrize("near", [True, False])
def test_errors_that_are_all_near_or_all_far_give_finite_numbers(near):
    scale, shape = fit_within(np.linspace(0.5, 2, 100), np.full(100, near))
    assert 0 <= scale < np.inf
    assert 0 < shape < np.inf


@pytest.mark.slow
def test_the_limit_calls_one_of_a_hundred_good_faces_invalid():
    sample, _ = sample_errors()
    calibration = fit(sample, size=SIZE)
    expected = spread(calibrated_covariance(sample.features, calibration.weights, size=SIZE)).mean(1) / SIZE
    good = np.linalg.norm(sample.errors, axis=-1).mean(1) <= 0.1 * sample.eyes
    assert 0.8 < good.mean() < 1
    assert (expected[good] > calibration.limit).mean() == pytest.approx(0.01, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_confidence_is_the_share_of_near_landmarks(seed):
    sample, _ = sample_errors(seed=seed)
    calibration = fit(sample, size=SIZE)
    spreads = spread(calibrated_covariance(sample.features, calibration.weights, size=SIZE))
    radius = NEAR * sample.eyes[:, None]
    confidence = calibration.probability(radius / spreads).ravel()
    near = (np.linalg.norm(sample.errors, axis=-1) <= radius).ravel()
    for part in np.array_split(np.argsort(confidence), 5):
        assert confidence[part].mean() == pytest.approx(near[part].mean(), abs=0.04)


def small_localizer(model=None):
    model = model or VotingRegressor(points=68, channels=(4, 8), hidden=4)
    template = Localizer.load("w300").template
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))
    variables = model.start_at(variables, 32 * template - 0.5)  # the mean face, whatever the picture
    stage = Stage(model=model, variables=variables, input_size=32, face_crop_size=64, margin=1.3)
    return Localizer(scheme=IBUG_68, box_convention="landmarks", stages=(stage,), template=template)


@pytest.fixture(scope="module")
def faces():
    """Faces whose annotation is what the small network predicts, with noise: so it is a good one."""
    drawn = load_faces("synthetic", "test", count=24)
    crops = crop_faces(drawn, size=64)
    (points,) = small_localizer().locate(crops.images, crops.boxes)
    points = to_image(crops.crop_to_image, points)
    noise = np.random.default_rng(0).normal(0, 2, points.shape)
    return dataclasses.replace(drawn, points=(points + noise).astype(np.float32))


@pytest.fixture(scope="module")
def calibrated(faces):
    return calibrate(small_localizer(), faces)


@pytest.mark.slow
def test_a_calibrated_model_is_calibrated_again_on_single_attempts(faces, calibrated):
    faces, size = faces.take(np.arange(4)), 32
    once = collect(small_localizer(), faces, seed=0)
    expected = spread(calibrated_covariance(once.features, calibrated.calibration.weights, size=size)).mean(1) / size
    half = dataclasses.replace(
        calibrated.calibration, limit=float(np.median(expected))
    )  # half of the faces are invalid
    strict = dataclasses.replace(calibrated, calibration=half)
    np.testing.assert_allclose(collect(strict, faces, seed=0).errors, once.errors, atol=0.02)
    again = collect(strict, faces, seed=0, retry_invalid=True)
    assert (np.abs(again.errors - once.errors).max((1, 2)) > 0.1).any()


@pytest.mark.slow
def test_every_face_is_predicted_with_each_change(faces):
    sample = collect(small_localizer(), faces, seed=0)
    levels = 1 + sum(len(change.levels) for change in STRESSES)
    assert sample.errors.shape == (levels * 24, 68, 2)
    assert np.bincount(sample.face).tolist() == [levels] * 24
    assert sample.mild.sum() == 3 * 24  # unchanged, and the mildest of two changes


@pytest.mark.slow
def test_the_calibrated_spread_is_about_the_error(calibrated, faces):
    sample = collect(calibrated, faces, seed=0)
    spreads = spread(calibrated_covariance(sample.features, calibrated.calibration.weights, size=32))
    errors = np.minimum(np.linalg.norm(sample.errors, axis=-1), LOST * 32)
    assert np.sqrt((errors**2).mean() / (spreads**2).mean()) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_predictions_have_covariances_that_a_bundle_keeps(calibrated, faces, tmp_path):
    loaded = Localizer.load(calibrated.save(tmp_path / "model"))
    assert loaded.calibration == calibrated.calibration
    images, boxes = [faces.picture(0), faces.picture(1)], [faces.boxes[:1], faces.boxes[1:2]]
    for first, second in zip(
        calibrated.predict_details(images, boxes), loaded.predict_details(images, boxes), strict=True
    ):
        np.testing.assert_array_equal(first.points, second.points)
        np.testing.assert_allclose(first.covariance, second.covariance, rtol=1e-5)
        assert (np.linalg.eigvalsh(first.covariance) > 0).all()
    plain = calibrated.predict(images[0], boxes[0])
    np.testing.assert_allclose(calibrated.predict_details(images, boxes)[0].points, plain, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("cut_on", ["host", "device"])
def test_the_covariance_scales_with_the_picture(calibrated, faces, cut_on):
    localizer = dataclasses.replace(calibrated, cut_on=cut_on)
    image = faces.picture(0)
    twice = image.repeat(2, 0).repeat(2, 1)
    (small,) = localizer.predict_details([image], [faces.boxes[:1]])
    (large,) = localizer.predict_details([twice], [(faces.boxes[:1] + 0.5) * 2 - 0.5])
    assert np.median(large.spread / small.spread) == pytest.approx(2, rel=0.05)
    assert large.expected_error == pytest.approx(small.expected_error, rel=0.1)


@pytest.mark.slow
def test_averaged_with_the_mirror_image_a_mirrored_picture_has_the_mirrored_covariance(calibrated, faces):
    localizer = dataclasses.replace(calibrated, flip_average=True)
    image, box = faces.picture(0), faces.boxes[:1]
    width = image.shape[1]
    mirrored_box = np.stack([width - 1 - box[:, 2], box[:, 1], width - 1 - box[:, 0], box[:, 3]], axis=1)
    (first,) = localizer.predict_details([image], [box])
    (second,) = localizer.predict_details([image[:, ::-1]], [mirrored_box])
    flip = IBUG_68.flip
    signs = np.array([[1, -1], [-1, 1]])
    weights = localizer.calibration.weights  # of the raw covariance only: the calibration is not symmetric
    assert weights.shape[0] == 68
    evidence, other = (
        localizer.locate_details(*crop).evidence.covariance
        for crop in (crop_of(image, box), crop_of(image[:, ::-1], mirrored_box))
    )
    np.testing.assert_allclose(evidence[0], other[0][flip] * signs, rtol=0.05, atol=0.2)
    assert first.points.shape == second.points.shape


def crop_of(image, box):
    from wing_jax.data.face_crops import crop_face, crop_squares, square_transforms, to_face_crop

    transform = square_transforms(crop_squares(box), size=64)
    return crop_face(image, box[0], size=64)[0][None], to_face_crop(transform, box.reshape(1, 2, 2)).reshape(1, 4)


def test_a_network_without_covariances_is_an_error(faces):
    model = PlainRegressor(points=68, channels=(4, 8), hidden=8)
    with pytest.raises(InputError, match="the network 'PlainRegressor' estimates no covariances: use a voting network"):
        calibrate(small_localizer(model), faces)


def test_too_few_faces_are_an_error(faces):
    with pytest.raises(InputError, match="6 of the 6 faces have all landmarks, but a calibration needs 20 or more"):
        calibrate(small_localizer(), faces.take(range(6)))


@pytest.mark.slow
def test_the_command_saves_a_calibrated_copy(faces, tmp_path, capsys):
    model, copy = small_localizer().save(tmp_path / "model"), tmp_path / "copy"
    for index, points in enumerate(faces.points):
        write_image(tmp_path / "faces" / f"{index:02}.png", faces.picture(index))
        write_pts(tmp_path / "faces" / f"{index:02}.pts", points)
    data = ["--data", "pts", "--root", str(tmp_path / "faces"), "--scheme", "ibug68", "--split", "all"]
    main(["calibrate", str(model), *data, "--output", str(copy)])
    assert "calibrated on 24 faces" in capsys.readouterr().out
    assert Localizer.load(copy).calibration is not None
    assert Localizer.load(model).calibration is None
    with pytest.raises(SystemExit):
        main(["calibrate", "w300", *data])
    assert "'w300' is a pretrained model, which is never changed" in capsys.readouterr().err
