"""The visibility of points as files write it: COCO's v, a probability, or true and false."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int8

from wing_jax.data.readers.json_file import number_of
from wing_jax.data.readers.listing import NOTHING
from wing_jax.errors import InputError
from wing_jax.text import quoted
from wing_jax.types import Visibility

BOOLEANS = {"true": 2, "false": 0}
WORDS = ("0, 1 or 2", "a probability from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatesReader:
    """How a file writes visibility.

    COCO's v: 0 no position, 1 hidden, 2 visible; where the file has no 2 nothing is said of hidden and visible, for
    some tools write 1 throughout. Probabilities, where a value of the file has a fraction and none lies outside 0 to
    1: 0 no position, below 0.5 hidden, else visible. True is 2, false is 0; nothing (empty or null) is unknown.
    """

    probabilities: bool
    told: bool  # whether hidden and visible are told apart

    def read(
        self, values: Sequence[Any], *, where: str
    ) -> tuple[Bool[np.ndarray, "points"], Int8[np.ndarray, "points"] | Visibility]:
        """(which points have a position, their `Visibility`) of one face, whose values stand in the file at `where`.

        Raises:
          InputError: a value is none of these.
        """
        states = [state_of(value) for value in values]
        for value, state in zip(values, states, strict=True):
            if state is None:
                continue
            if not (0 <= state <= 1 if self.probabilities else state in (0, 1, 2)):
                mixed = ", and others of the file are no probabilities" if math.isfinite(state) and state % 1 else ""
                raise InputError(
                    f"{where}: visibility {quoted(value)} is not {WORDS[self.probabilities]}{mixed}: correct it"
                )
        positioned = np.array([state != 0 for state in states], bool)
        if not self.told:
            return positioned, Visibility.UNKNOWN
        return positioned, np.array([self._visibility(state) for state in states], np.int8)

    def _visibility(self, state: int | float | None) -> Visibility:
        if state is None or state == 0:
            return Visibility.UNKNOWN
        hidden = state < 0.5 if self.probabilities else state == 1
        return Visibility.OCCLUDED if hidden else Visibility.VISIBLE


def states_reader(values: Iterable[Any]) -> StatesReader:
    """How a file writes visibility, of which `values` are all."""
    states = [state for value in values if (state := state_of(value)) is not None]
    fractions = any(math.isfinite(state) and state % 1 for state in states)
    probabilities = fractions and all(0 <= state <= 1 for state in states)
    return StatesReader(probabilities=probabilities, told=probabilities or 2 in states)


def state_of(value: Any) -> int | float | None:
    """A value as a number; None where it says nothing, NaN where it is neither."""
    if isinstance(value, bool):
        return BOOLEANS[str(value).lower()]
    if isinstance(value, str):
        word = value.strip().lower()
        if word in NOTHING or word in BOOLEANS:
            return BOOLEANS.get(word)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    number = number_of(value)
    return math.nan if number is None else number if abs(number) < 1e9 else math.inf
