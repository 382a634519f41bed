"""Procrustes analysis and PCA of many 2-D shapes: similarities without reflection, and hidden points do not count.

A shape is the complex vector z = x + i y of its L points, so scale and rotation are one complex number and the
least-squares fit is a quotient of inner products. Deviations from the mean shape are real vectors [x..., y...].
Offline work in float64. Which axis is pose is found in `wing_jax.balance`.

How hidden points are dealt with. The aligned shapes are taken as Gaussian with a low-rank covariance
(probabilistic PCA, Tipping and Bishop, J. R. Stat. Soc. B 61, 1999) and fitted by EM: a round fills the hidden points
of each face with their expectation given the visible ones, aligns the filled shape to the mean, and takes the axes
of the covariance that follows. Position, scale and rotation are fitted together with the coefficients, for half a
face that is aligned by itself hides most of its yaw. Where all points are visible, this is plain Procrustes
analysis and PCA. Each shape counts together with its mirror image, so an axis is either symmetric or antisymmetric.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

Shapes: TypeAlias = Complex[np.ndarray, "... points"]
Weights: TypeAlias = Float[np.ndarray, "... points"]


def as_complex(points: Float[np.ndarray, "... points 2"]) -> Shapes:
    """`[..., points, 2]` -> complex128 `[..., points]`."""
    return points[..., 0].astype(np.float64) + 1j * points[..., 1].astype(np.float64)


def as_points(shapes: Shapes) -> Float[np.ndarray, "... points 2"]:
    """Complex `[..., points]` -> `[..., points, 2]`."""
    return np.stack([shapes.real, shapes.imag], axis=-1)


def flat(shapes: Shapes) -> Float[np.ndarray, "... coordinates"]:
    """Complex `[..., points]` -> `[x..., y...]`, `[..., 2 points]`."""
    return np.concatenate([shapes.real, shapes.imag], axis=-1)


def mirror(shapes: Shapes, flip_permutation: Int[np.ndarray, "points"]) -> Shapes:
    """The shapes as seen in a mirror: x changes sign, and left and right points change names."""
    return -np.conj(shapes[..., flip_permutation])


def turn_onto(source: Shapes, target: Shapes, weights: Weights | None = None) -> Complex[np.ndarray, "... 1"]:
    """The complex number whose modulus is the scale, and argument the rotation, of the fit of `align`."""
    weights = np.ones(source.shape) if weights is None else weights
    centered, aim = source - _center(source, weights), target - _center(target, weights)
    norms = (weights * np.abs(centered) ** 2).sum(-1, keepdims=True)
    return (weights * np.conj(centered) * aim).sum(-1, keepdims=True) / np.maximum(norms, 1e-300)


def align(source: Shapes, target: Shapes, weights: Weights | None = None) -> Shapes:
    """Every `source` shape moved, turned and scaled to lie on `target` with least weighted squared error.

    All points are moved, those of weight 0 too: they only have no say in the fit.
    """
    weights = np.ones(source.shape) if weights is None else weights
    moved = turn_onto(source, target, weights) * (source - _center(source, weights))
    return moved + _center(target, weights)


def _center(shapes: Shapes, weights: Weights) -> Complex[np.ndarray, "... 1"]:
    return (weights * shapes).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)


def symmetrize(
    shape: Complex[np.ndarray, "points"],
    weights: Float[np.ndarray, "points"],
    flip_permutation: Int[np.ndarray, "points"],
) -> Complex[np.ndarray, "points"]:
    """The mean of `shape` and its mirror image, upright, of norm 1 about 0; 0 where both have weight 0.

    e^{it} z is nearest to its mirror image when e^{2it} sum(z z[flip]) is real and negative. Of the two
    such rotations, half a turn apart, the smaller is taken.
    """
    paired = np.sqrt(weights * weights[flip_permutation])
    centered = shape - _center(shape, paired)
    angle = (np.pi - np.angle((paired * centered * centered[flip_permutation]).sum())) / 2
    angle -= np.pi * np.round(angle / np.pi)
    upright = np.exp(1j * angle) * centered
    both = weights + weights[flip_permutation]
    folded = (weights * upright + mirror(weights * upright, flip_permutation)) / np.maximum(both, 1e-300)
    folded = np.where(both > 0, folded - _center(folded, np.sign(both)), 0)
    return folded / np.linalg.norm(folded)


def symmetric_mean(
    shapes: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    flip_permutation: Int[np.ndarray, "points"],
    *,
    rounds: int = 30,
    tolerance: float = 1e-9,
) -> Complex[np.ndarray, "points"]:
    """Generalised Procrustes mean of the shapes and their mirror images: upright, symmetric, of norm 1 about 0.

    Each round aligns the shapes to the mean by their visible points and averages what is visible; the first mean
    is the face with most left-right pairs. The result stands as most of the given shapes do: these may lie askew,
    but not mostly upside down.

    Raises:
      ValueError: no face shows two points together with their mirror images.
    """
    weights = visible.astype(np.float64)
    pairs = visible & visible[:, flip_permutation]
    fullest = int(np.argmax(pairs.sum(-1)))
    known = pairs[fullest].astype(np.float64)
    if known.sum() < 2:
        raise ValueError("no face shows two points with their mirror images: add faces seen from the front")
    mean = symmetrize(np.where(pairs[fullest], shapes[fullest], 0), known, flip_permutation)
    for _ in range(rounds):
        usable = (weights * known).sum(-1) >= 2
        counted = weights[usable]
        aligned = align(shapes[usable], mean, counted * known)
        seen = counted.sum(0)
        average = (counted * aligned).sum(0) / np.maximum(seen, 1)
        previous, mean = mean, symmetrize(average, seen, flip_permutation)
        known = np.sign(seen + seen[flip_permutation])
        if np.abs(mean - previous).max() < tolerance:
            break
    turns = turn_onto(shapes, mean, weights)
    return mean if np.sign(turns).real.mean() >= 0 else -mean


class ShapeGaussian(NamedTuple):
    """Aligned shapes as a Gaussian: the variance is `variances` along `axes` and `noise` in all other directions."""

    mean: Complex[np.ndarray, "points"]
    axes: Float[np.ndarray, "axes coordinates"]  # orthonormal rows, largest variance first
    variances: Float[np.ndarray, "axes"]
    noise: float
    total: float  # variance in all directions together


def fit_shape_gaussian(
    shapes: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    flip_permutation: Int[np.ndarray, "points"],
    *,
    components: int = 6,
    rounds: int = 150,
    sample: int = 1000,
) -> ShapeGaussian:
    """EM fit, described above, to the shapes and their mirror images; `components` axes, or as many as there are.

    EM creeps where many points are hidden. So it first runs, up to `rounds` long, on about `sample` faces spread
    evenly over the data, which is plenty for axes this few, and then twice on all.
    """
    mean = symmetric_mean(shapes, visible, flip_permutation, rounds=8)
    some = slice(None, None, -(-len(shapes) // sample))
    placed = align(shapes[some], mean, visible[some].astype(np.float64))
    deviations = np.where(np.tile(visible[some], 2), flat(placed - mean), 0)
    gaussian = _principal(mean, deviations.T @ deviations / len(placed), flip_permutation, components)
    gaussian = _expectation_maximization(gaussian, placed, visible[some], flip_permutation, components, rounds)
    if len(placed) == len(shapes):
        return gaussian
    placed = gaussian.mean + _unflat(deviations_from_mean(gaussian, shapes, visible))
    return _expectation_maximization(gaussian, placed, visible, flip_permutation, components, 2)


def deviations_from_mean(
    gaussian: ShapeGaussian,
    shapes: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    *,
    refinements: int = 6,
) -> Float[np.ndarray, "faces coordinates"]:
    """Each shape, its hidden points filled in and aligned to the mean, minus the mean: `[faces, 2 points]`."""
    patterns = _Patterns.of(visible)
    placed = align(shapes, gaussian.mean, visible.astype(np.float64))
    for _ in range(0 if visible.all() else refinements):
        placed, _ = _fill(placed, patterns, gaussian)
    return flat(placed - gaussian.mean)


def _expectation_maximization(
    gaussian: ShapeGaussian,
    placed: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    flip_permutation: Int[np.ndarray, "points"],
    components: int,
    rounds: int,
) -> ShapeGaussian:
    patterns = _Patterns.of(visible)
    for _ in range(rounds):
        placed, lacking = _fill(placed, patterns, gaussian)
        mean = symmetrize(placed.mean(0), np.ones(len(gaussian.mean)), flip_permutation)
        placed = align(placed, mean)
        deviations = flat(placed - mean)
        change = np.abs(mean - gaussian.mean).max()
        covariance = (deviations.T @ deviations + lacking) / len(placed)
        gaussian = _principal(mean, covariance, flip_permutation, components)
        if change < 1e-8:
            break
    return gaussian


class _Patterns(NamedTuple):
    """Which coordinates are visible, once for each distinct pattern: AFLW has 1,911 in 21,080 faces."""

    coordinates: Bool[np.ndarray, "patterns coordinates"]
    which: Int[np.ndarray, "faces"]
    faces: Int[np.ndarray, "patterns"]

    @classmethod
    def of(cls, visible: Bool[np.ndarray, "faces points"]) -> "_Patterns":
        distinct, which, faces = np.unique(visible, axis=0, return_inverse=True, return_counts=True)
        return cls(np.concatenate([distinct, distinct], axis=1), which.reshape(-1), faces)


def _fill(
    placed: Complex[np.ndarray, "faces points"], patterns: _Patterns, gaussian: ShapeGaussian
) -> tuple[Complex[np.ndarray, "faces points"], Float[np.ndarray, "coordinates coordinates"]]:
    """The E step: shapes with hidden points filled in, aligned; and what the filled points lack in covariance.

    The loadings W are the axes times their standard deviations, and four directions without a prior in which
    a similarity moves the mean. With O the visible coordinates, M = W O W' + noise * prior is inverted
    once for each pattern; the expected latent is M^-1 W O d for a deviation d, its covariance noise * M^-1.
    """
    axes = len(gaussian.axes)
    spread = np.sqrt(np.maximum(gaussian.variances - gaussian.noise, 0))
    loadings = np.concatenate([spread[:, None] * gaussian.axes, _similarity_directions(gaussian.mean)])
    latents = len(loadings)
    prior = np.where(np.arange(latents) < axes, 1.0, 1e-6)
    products = (loadings[:, None] * loadings).reshape(latents**2, -1)
    precision = (patterns.coordinates @ products.T).reshape(-1, latents, latents)
    posterior = np.linalg.inv(precision + gaussian.noise * np.diag(prior))

    visible = patterns.coordinates[patterns.which]
    deviations = np.where(visible, flat(placed - gaussian.mean), 0)
    expected = np.matmul(posterior[patterns.which], (deviations @ loadings.T)[..., None])[..., 0]
    filled = np.where(visible, deviations, expected @ loadings)
    aligned = align(gaussian.mean + _unflat(filled), gaussian.mean)

    factor = np.linalg.cholesky(gaussian.noise * posterior[:, :axes, :axes])
    hidden = ~patterns.coordinates * np.sqrt(patterns.faces)[:, None]
    uncertain = (np.swapaxes(factor, 1, 2) @ loadings[:axes] * hidden[:, None]).reshape(-1, hidden.shape[1])
    lacking = uncertain.T @ uncertain + gaussian.noise * np.diag((hidden**2).sum(0))
    return aligned, lacking


def _principal(
    mean: Complex[np.ndarray, "points"],
    covariance: Float[np.ndarray, "coordinates coordinates"],
    flip_permutation: Int[np.ndarray, "points"],
    components: int,
) -> ShapeGaussian:
    """The M step: principal axes of the covariance of shapes and mirror images.

    Alignment has taken four of the directions, so 2L - 4 hold variance; one at least is left to be noise.
    """
    count = len(mean)
    reflected = np.concatenate([flip_permutation, count + flip_permutation])
    signs = np.repeat([-1.0, 1.0], count)
    flipped = signs[:, None] * covariance[np.ix_(reflected, reflected)] * signs
    variances, axes = np.linalg.eigh((covariance + flipped) / 2)
    variances, axes = np.maximum(variances[::-1], 0), axes.T[::-1]
    kept, free = min(components, 2 * count - 5), 2 * count - 4
    noise = max(float(variances[kept:free].mean()), 1e-9 * float(variances[0]), 1e-15)
    return ShapeGaussian(mean, axes[:kept], variances[:kept], noise, float(variances.sum()))


def _similarity_directions(mean: Complex[np.ndarray, "points"]) -> Float[np.ndarray, "4 coordinates"]:
    """Unit moves of the mean (which has norm 1 about 0): along x, along y, larger, turned."""
    along = np.full_like(mean, 1 / np.sqrt(len(mean)))
    return flat(np.stack([along, 1j * along, mean, 1j * mean]))


def _unflat(deviations: Float[np.ndarray, "... coordinates"]) -> Shapes:
    real, imaginary = np.split(deviations, 2, axis=-1)
    return real + 1j * imaginary
