"""Procrustes analysis and PCA of many 2-D shapes: similarities without reflection, hidden points ignored.

A shape is the complex vector z = x + i y of its L points, so scale and rotation are one complex number and the
least-squares fit is a quotient of inner products. Deviations from the mean shape are real vectors [x..., y...].
The analysis runs offline in float64. `wing_jax.balance` finds which axis is the pose.

Hidden points. The aligned shapes are modeled as Gaussian with a low-rank covariance (probabilistic PCA, Tipping and
Bishop, J. R. Stat. Soc. B 61, 1999), fitted by EM. Each round fills the hidden points of each face with their
expectation given the visible ones, aligns the filled shape to the mean, and computes the axes of the resulting
covariance. Position, scale and rotation are fitted jointly with the coefficients, because aligning half a face alone
hides most of its yaw. If all points are visible, this is plain Procrustes analysis and PCA. Each shape is used with its
mirror image, so each axis is either symmetric or antisymmetric.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

Shapes: TypeAlias = Complex[np.ndarray, "... points"]
Weights: TypeAlias = Float[np.ndarray, "... points"]


def as_complex(points: Float[np.ndarray, "... points 2"]) -> Shapes:
    """Convert `[..., points, 2]` to complex128 `[..., points]`."""
    return points[..., 0].astype(np.float64) + 1j * points[..., 1].astype(np.float64)


def as_points(shapes: Shapes) -> Float[np.ndarray, "... points 2"]:
    """Convert complex `[..., points]` to `[..., points, 2]`."""
    return np.stack([shapes.real, shapes.imag], axis=-1)


def flat(shapes: Shapes) -> Float[np.ndarray, "... coordinates"]:
    """Convert complex `[..., points]` to `[x..., y...]`, `[..., 2 points]`."""
    return np.concatenate([shapes.real, shapes.imag], axis=-1)


def mirror(shapes: Shapes, flip_permutation: Int[np.ndarray, "points"]) -> Shapes:
    """Mirror the shapes: x changes sign, and left and right points swap."""
    return -np.conj(shapes[..., flip_permutation])


def turn_onto(source: Shapes, target: Shapes, weights: Weights | None = None) -> Complex[np.ndarray, "... 1"]:
    """Return the fit of `align` as a complex number: its modulus is the scale, its argument the rotation."""
    weights = np.ones(source.shape) if weights is None else weights
    source, target = source - _center(source, weights), target - _center(target, weights)
    norms = (weights * np.abs(source) ** 2).sum(-1, keepdims=True)
    return (weights * np.conj(source) * target).sum(-1, keepdims=True) / np.maximum(norms, 1e-300)


def align(source: Shapes, target: Shapes, weights: Weights | None = None) -> Shapes:
    """Translate, rotate and scale each `source` shape to fit `target` with least weighted squared error.

    All points are transformed; those of weight 0 do not affect the fit.
    """
    weights = np.ones(source.shape) if weights is None else weights
    turned = turn_onto(source, target, weights) * (source - _center(source, weights))
    return turned + _center(target, weights)


def _center(shapes: Shapes, weights: Weights) -> Complex[np.ndarray, "... 1"]:
    return (weights * shapes).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)


def symmetrize(
    shape: Complex[np.ndarray, "points"],
    weights: Float[np.ndarray, "points"],
    flip_permutation: Int[np.ndarray, "points"],
) -> Complex[np.ndarray, "points"]:
    """Return the mean of `shape` and its mirror image, upright, of norm 1 about 0; 0 where both have weight 0.

    e^{it} z is closest to its mirror image when e^{2it} sum(z z[flip]) is real and negative. Of the two such
    rotations, half a turn apart, the smaller is used.
    """
    paired = np.sqrt(weights * weights[flip_permutation])
    centered = shape - _center(shape, paired)
    angle = (np.pi - np.angle((paired * centered * centered[flip_permutation]).sum())) / 2
    angle -= np.pi * np.round(angle / np.pi)
    upright = np.exp(1j * angle) * centered
    total = weights + weights[flip_permutation]
    symmetric = (weights * upright + mirror(weights * upright, flip_permutation)) / np.maximum(total, 1e-300)
    symmetric = np.where(total > 0, symmetric - _center(symmetric, np.sign(total)), 0)
    return symmetric / np.linalg.norm(symmetric)


def symmetric_mean(
    shapes: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    flip_permutation: Int[np.ndarray, "points"],
    *,
    rounds: int = 30,
    tolerance: float = 1e-9,
) -> Complex[np.ndarray, "points"]:
    """Return the generalized Procrustes mean of the shapes and their mirror images.

    The mean is symmetric, upright, and of norm 1 about 0. Each round aligns the shapes to the mean by their visible
    points and averages the visible points; the first mean is the face with the most left-right pairs. The result is
    upright if most shapes are: they may be tilted, but not mostly upside down.

    Raises:
      ValueError: no face has two visible points whose mirror images are visible too.
    """
    weights = visible.astype(np.float64)
    pairs = visible & visible[:, flip_permutation]
    fullest = int(np.argmax(pairs.sum(-1)))
    in_mean = pairs[fullest].astype(np.float64)  # points that the mean has so far
    if in_mean.sum() < 2:
        raise ValueError("no face has two visible points whose mirror points are visible too: add frontal faces")
    mean = symmetrize(np.where(pairs[fullest], shapes[fullest], 0), in_mean, flip_permutation)
    for _ in range(rounds):
        usable = (weights * in_mean).sum(-1) >= 2
        used_weights = weights[usable]
        aligned = align(shapes[usable], mean, used_weights * in_mean)
        counts = used_weights.sum(0)
        average = (used_weights * aligned).sum(0) / np.maximum(counts, 1)
        previous, mean = mean, symmetrize(average, counts, flip_permutation)
        in_mean = np.sign(counts + counts[flip_permutation])
        if np.abs(mean - previous).max() < tolerance:
            break
    turns = turn_onto(shapes, mean, weights)
    return mean if np.sign(turns).real.mean() >= 0 else -mean


class ShapeGaussian(NamedTuple):
    """A Gaussian of aligned shapes: the variance is `variances` along `axes` and `noise` in all other directions."""

    mean: Complex[np.ndarray, "points"]
    axes: Float[np.ndarray, "axes coordinates"]  # orthonormal rows, largest variance first
    variances: Float[np.ndarray, "axes"]
    noise: float
    total: float  # total variance, over all directions


def fit_shape_gaussian(
    shapes: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    flip_permutation: Int[np.ndarray, "points"],
    *,
    components: int = 6,
    rounds: int = 150,
    sample: int = 1000,
) -> ShapeGaussian:
    """Fit a Gaussian by EM, as described above, to the shapes and their mirror images; at most `components` axes.

    EM converges slowly if many points are hidden. So it first runs for up to `rounds` rounds on about `sample` faces
    spread evenly over the data, which is enough for so few axes, and then two rounds on all faces.
    """
    mean = symmetric_mean(shapes, visible, flip_permutation, rounds=8)
    subset = slice(None, None, -(-len(shapes) // sample))
    aligned = align(shapes[subset], mean, visible[subset].astype(np.float64))
    deviations = np.where(np.tile(visible[subset], 2), flat(aligned - mean), 0)
    gaussian = _maximize(mean, deviations.T @ deviations / len(aligned), flip_permutation, components)
    gaussian = _run_em(gaussian, aligned, visible[subset], flip_permutation, components, rounds)
    if len(aligned) == len(shapes):
        return gaussian
    aligned = gaussian.mean + _to_complex(deviations_from_mean(gaussian, shapes, visible))
    return _run_em(gaussian, aligned, visible, flip_permutation, components, 2)


def deviations_from_mean(
    gaussian: ShapeGaussian,
    shapes: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    *,
    refinements: int = 6,
) -> Float[np.ndarray, "faces coordinates"]:
    """Fill in the hidden points of each shape, align it to the mean and subtract the mean: `[faces, 2 points]`."""
    patterns = _Patterns.of(visible)
    aligned = align(shapes, gaussian.mean, visible.astype(np.float64))
    for _ in range(0 if visible.all() else refinements):
        aligned, _ = _fill(aligned, patterns, gaussian)
    return flat(aligned - gaussian.mean)


def _run_em(
    gaussian: ShapeGaussian,
    aligned: Complex[np.ndarray, "faces points"],
    visible: Bool[np.ndarray, "faces points"],
    flip_permutation: Int[np.ndarray, "points"],
    components: int,
    rounds: int,
) -> ShapeGaussian:
    patterns = _Patterns.of(visible)
    for _ in range(rounds):
        aligned, missing = _fill(aligned, patterns, gaussian)
        mean = symmetrize(aligned.mean(0), np.ones(len(gaussian.mean)), flip_permutation)
        aligned = align(aligned, mean)
        deviations = flat(aligned - mean)
        change = np.abs(mean - gaussian.mean).max()
        covariance = (deviations.T @ deviations + missing) / len(aligned)
        gaussian = _maximize(mean, covariance, flip_permutation, components)
        if change < 1e-8:
            break
    return gaussian


class _Patterns(NamedTuple):
    """The distinct patterns of visible coordinates; AFLW has 1,911 in 21,080 faces."""

    coordinates: Bool[np.ndarray, "patterns coordinates"]
    indices: Int[np.ndarray, "faces"]  # pattern of each face
    counts: Int[np.ndarray, "patterns"]  # faces of each pattern

    @classmethod
    def of(cls, visible: Bool[np.ndarray, "faces points"]) -> "_Patterns":
        distinct, indices, counts = np.unique(visible, axis=0, return_inverse=True, return_counts=True)
        return cls(np.concatenate([distinct, distinct], axis=1), indices.reshape(-1), counts)


def _fill(
    aligned: Complex[np.ndarray, "faces points"], patterns: _Patterns, gaussian: ShapeGaussian
) -> tuple[Complex[np.ndarray, "faces points"], Float[np.ndarray, "coordinates coordinates"]]:
    """Run the E step: fill in the hidden points and align; also return the covariance that filled points are missing.

    The loadings W are the axes times their standard deviations, and the four directions in which a similarity moves the
    mean, which have no prior. With O the visible coordinates, M = W O W' + noise * prior is inverted once for each
    pattern; the expected latent is M^-1 W O d for a deviation d, its covariance noise * M^-1.
    """
    axes = len(gaussian.axes)
    spread = np.sqrt(np.maximum(gaussian.variances - gaussian.noise, 0))
    loadings = np.concatenate([spread[:, None] * gaussian.axes, _similarity_directions(gaussian.mean)])
    latents = len(loadings)
    prior = np.where(np.arange(latents) < axes, 1.0, 1e-6)
    products = (loadings[:, None] * loadings).reshape(latents**2, -1)
    precision = (patterns.coordinates @ products.T).reshape(-1, latents, latents)
    posterior = np.linalg.inv(precision + gaussian.noise * np.diag(prior))

    visible = patterns.coordinates[patterns.indices]
    deviations = np.where(visible, flat(aligned - gaussian.mean), 0)
    expected = np.matmul(posterior[patterns.indices], (deviations @ loadings.T)[..., None])[..., 0]
    filled = np.where(visible, deviations, expected @ loadings)
    aligned = align(gaussian.mean + _to_complex(filled), gaussian.mean)

    factor = np.linalg.cholesky(gaussian.noise * posterior[:, :axes, :axes])
    hidden = ~patterns.coordinates * np.sqrt(patterns.counts)[:, None]
    uncertain = (np.swapaxes(factor, 1, 2) @ loadings[:axes] * hidden[:, None]).reshape(-1, hidden.shape[1])
    missing = uncertain.T @ uncertain + gaussian.noise * np.diag((hidden**2).sum(0))
    return aligned, missing


def _maximize(
    mean: Complex[np.ndarray, "points"],
    covariance: Float[np.ndarray, "coordinates coordinates"],
    flip_permutation: Int[np.ndarray, "points"],
    components: int,
) -> ShapeGaussian:
    """Run the M step: find the principal axes of the covariance of shapes and mirror images.

    Alignment removes four directions, so 2L - 4 have variance; at least one of them is treated as noise.
    """
    count = len(mean)
    permutation = np.concatenate([flip_permutation, count + flip_permutation])
    signs = np.repeat([-1.0, 1.0], count)
    mirrored = signs[:, None] * covariance[np.ix_(permutation, permutation)] * signs
    variances, axes = np.linalg.eigh((covariance + mirrored) / 2)
    variances, axes = np.maximum(variances[::-1], 0), axes.T[::-1]
    components, free = min(components, 2 * count - 5), 2 * count - 4
    noise = max(float(variances[components:free].mean()), 1e-9 * float(variances[0]), 1e-15)
    return ShapeGaussian(mean, axes[:components], variances[:components], noise, float(variances.sum()))


def _similarity_directions(mean: Complex[np.ndarray, "points"]) -> Float[np.ndarray, "4 coordinates"]:
    """Return unit changes of the mean (of norm 1 about 0): translation in x and y, scaling, rotation."""
    shift = np.full_like(mean, 1 / np.sqrt(len(mean)))
    return flat(np.stack([shift, 1j * shift, mean, 1j * mean]))


def _to_complex(deviations: Float[np.ndarray, "... coordinates"]) -> Shapes:
    real, imaginary = np.split(deviations, 2, axis=-1)
    return real + 1j * imaginary
