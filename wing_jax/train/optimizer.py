"""Optimizers and learning rate schedules, from numbers."""

import optax


def learning_rates(*, first: float, last: float, steps: int, decay: str, warmup: int = 0) -> optax.Schedule:
    """Return a schedule from `first` to `last` in `steps` steps.

    `decay` is "exponential" (linear in the logarithm, the paper's "reduced from .. to ..") or "cosine". Of the `steps`,
    the first `warmup` rise linearly to `first`.
    """
    span = max(1, steps - warmup)
    if decay == "exponential":
        decay_schedule = optax.exponential_decay(first, span, last / first, end_value=last)
    else:
        decay_schedule = optax.cosine_decay_schedule(first, span, alpha=last / first)
    warmup_schedule = optax.linear_schedule(first / max(1, warmup), first, warmup)
    return optax.join_schedules([warmup_schedule, decay_schedule], [warmup]) if warmup else decay_schedule


def make_optimizer(
    name: str,
    learning_rate: optax.Schedule,
    *,
    weight_decay: float,
    momentum: float = 0.9,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """Return an optimizer by name.

    "sgd" has momentum, and weight decay added to the gradient, for weights and biases, as in the paper's toolbox
    MatConvNet. "adamw" has decoupled weight decay, of matrices and kernels only.
    """
    if name == "sgd":
        rule = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=momentum))
    else:
        rule = optax.adamw(learning_rate, weight_decay=weight_decay, mask=_kernels)
    return optax.chain(optax.clip_by_global_norm(clip), rule) if clip > 0 else rule


def default_optimizer(*, steps: int) -> optax.GradientTransformation:
    """Return the default optimizer, that of the preset "w300".

    It is AdamW with decoupled weight decay 0.05, of matrices and kernels only. The learning rate rises to 1e-3 in a
    tenth of the steps, at most 200, and decays to 1e-5 along a cosine.
    """
    warmup = min(200, steps // 10)
    rates = learning_rates(first=1e-3, last=1e-5, steps=steps, decay="cosine", warmup=warmup)
    return make_optimizer("adamw", rates, weight_decay=5e-2)


def _kernels(params):
    import jax

    return jax.tree.map(lambda x: x.ndim > 1, params)
