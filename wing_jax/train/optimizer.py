"""Optimizers and schedules, from keyword numbers."""

import optax


def learning_rates(*, first: float, last: float, steps: int, decay: str, warmup: int = 0) -> optax.Schedule:
    """From `first` to `last` in `steps` steps: "exponential" (the paper's "reduced from .. to ..", evenly in the
    logarithm) or "cosine"; before it, `warmup` steps of linear rise that count within `steps`."""
    span = max(1, steps - warmup)
    if decay == "exponential":
        falling = optax.exponential_decay(first, span, last / first, end_value=last)
    else:
        falling = optax.cosine_decay_schedule(first, span, alpha=last / first)
    rising = optax.linear_schedule(first / max(1, warmup), first, warmup)
    return optax.join_schedules([rising, falling], [warmup]) if warmup else falling


def make_optimizer(
    name: str,
    learning_rate: optax.Schedule,
    *,
    weight_decay: float,
    momentum: float = 0.9,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """ "sgd": momentum with weight decay coupled into the gradient, of weights and biases alike, as the paper's
    toolbox MatConvNet has it; "adamw": decoupled, of matrices and kernels only."""
    if name == "sgd":
        rule = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=momentum))
    else:
        rule = optax.adamw(learning_rate, weight_decay=weight_decay, mask=_kernels)
    return optax.chain(optax.clip_by_global_norm(clip), rule) if clip > 0 else rule


def default_optimizer(*, steps: int) -> optax.GradientTransformation:
    """AdamW whose rate rises to 1e-3 in a tenth of the steps, 200 at most, and falls to 1e-5 by a cosine; decoupled
    weight decay 0.05, of matrices and kernels only. It is what the preset "w300" trains with."""
    warmup = min(200, steps // 10)
    rates = learning_rates(first=1e-3, last=1e-5, steps=steps, decay="cosine", warmup=warmup)
    return make_optimizer("adamw", rates, weight_decay=5e-2)


def _kernels(params):
    import jax

    return jax.tree.map(lambda x: x.ndim > 1, params)
