"""Losses by name, from this package and others, for configs and the command line.

    @register_loss                                        # never rescaled, in pixels of the network's crop
    def log_cosh(predicted, target, *, scale=1.0): ...

    @register_loss(name="bounded", lengths=("width",))  # `width` in pixels of a 64 x 64 crop, rescaled to the crop
    def bounded_loss(predicted, target, *, width=1.0): ...

An installed package can register its loss as an entry point of the group "wing_jax.losses".
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, overload

from jaxtyping import Array

from wing_jax.runtime.parameters import parameters_of, required_of
from wing_jax.runtime.registry import Registry

Function = TypeVar("Function", bound=Callable[..., Any])
NOT_PARAMETERS = ("where",)  # the mask of optax, not a hyper-parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegisteredLoss:
    """An elementwise loss and its declared properties.

    Args:
      function: `(predicted, target, *, params) -> array` of their shape.
      lengths: names of the parameters that are lengths; None: the loss is never rescaled.
      degree: the degree of homogeneity: 1 for L1 and Wing, 2 for squared errors.
      reference_size: side in pixels of the crop that the default lengths are for.

    >>> from wing_jax import losses
    >>> losses.LOSSES["wing"].parameters
    {'width': 10.0, 'epsilon': 2.0}
    """

    function: Callable[..., Array]
    lengths: tuple[str, ...] | None = None
    degree: int = 1
    reference_size: int = 64

    @property
    def parameters(self) -> dict[str, Any]:
        """The default of each parameter by name; parameters without a default are only in `required`."""
        return parameters_of(self.function, skip=2, without=NOT_PARAMETERS)

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the parameters without a default."""
        return required_of(self.function, skip=2, without=NOT_PARAMETERS)

    @property
    def rescaled(self) -> bool:
        """Whether the loss declares `lengths`, so that it can be rescaled from its reference crop to any other."""
        return self.lengths is not None


def _wrap_entry_point(name: str, loaded: Any) -> RegisteredLoss:
    if not callable(loaded):
        raise ValueError(
            f"the entry point {name!r} of wing_jax.losses is not a function: point it to a function (predicted, target)"
        )
    return RegisteredLoss(function=loaded)


LOSSES: Registry[RegisteredLoss] = Registry("loss", group="wing_jax.losses", adopt=_wrap_entry_point)


@overload
def register_loss(function: Function, /) -> Function: ...
@overload
def register_loss(
    function: None = None,
    /,
    *,
    name: str | None = None,
    lengths: tuple[str, ...] | None = None,
    degree: int = 1,
    reference_size: int = 64,
) -> Callable[[Function], Function]: ...
def register_loss(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    lengths: tuple[str, ...] | None = None,
    degree: int = 1,
    reference_size: int = 64,
) -> Any:
    """Register an elementwise loss, so that `make_loss`, configs and the command line find it by name.

    Args:
      function: `(predicted, target, *, params) -> array`, pure and elementwise: two arrays of one shape, an array of
        that shape, not reduced. Its other arguments are its parameters, except `where`, which is a mask.
      name: its name; the function's name if None.
      lengths: which of its parameters are lengths in pixels. A loss that declares them, even `()` for none, is
        rescaled from its reference crop to the network's crop. It must then be homogeneous:
        f(x / s; lengths / s) = f(x; lengths) / s ** degree. None: it is never rescaled, and works in pixels of the
        network's crop.
      degree: the degree of homogeneity: 1 for L1 and Wing, 2 for squared errors.
      reference_size: side in pixels of the crop that its default lengths are for.

    Returns:
      The function, unchanged; without a function, a decorator.

    Raises:
      ValueError: a length is not a parameter of the function, or the name is already registered.

    >>> import jax.numpy as jnp
    >>> from wing_jax import losses
    >>> @losses.register_loss(name="doc_cauchy", lengths=("width",), degree=2)
    ... def cauchy_loss(predicted, target, *, width=2.0):
    ...     return width**2 * jnp.log1p(jnp.square((predicted - target) / width))
    >>> loss = losses.make_loss("doc_cauchy", working_extent=128.0, width=1.0)  # pixels of 64
    >>> float(loss(jnp.asarray(2.0), jnp.asarray(0.0))) == float(cauchy_loss(1.0, 0.0, width=1.0))
    True
    """

    def register(function: Any) -> Any:
        loss = RegisteredLoss(function=function, lengths=lengths, degree=degree, reference_size=reference_size)
        parameters = [*loss.parameters, *loss.required]
        if unknown := [label for label in lengths or () if label not in parameters]:
            raise ValueError(f"lengths={lengths}: {', '.join(unknown)} is not a parameter of {function.__qualname__}")
        LOSSES.add(name or function.__name__, loss, origin=function)
        return function

    return register if function is None else register(function)
