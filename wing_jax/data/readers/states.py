"""Visibility values in files: COCO's v, a probability, or true and false."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int8

from wing_jax.data.readers.json_file import parse_json_number
from wing_jax.data.readers.listing import MISSING_VALUES
from wing_jax.errors import InputError
from wing_jax.text import quoted
from wing_jax.types import Visibility

BOOLEANS = {"true": 2, "false": 0}
EXPECTED = ("0, 1 or 2", "a probability from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatesReader:
    """The format in which a file stores visibility.

    COCO's v: 0 no position, 1 hidden, 2 visible. If the file contains no 2, visibility is unknown, because some tools
    always write 1. Probabilities, if a value of the file has a fraction and none is outside 0 to 1: 0 no position,
    below 0.5 hidden, else visible. True is 2, false is 0; missing (empty or null) is unknown.
    """

    probabilities: bool
    distinguishes_hidden: bool

    def read(
        self, values: Sequence[Any], *, location: str
    ) -> tuple[Bool[np.ndarray, "points"], Int8[np.ndarray, "points"] | Visibility]:
        """Parse the `values` of one face, which are at `location` in the file.

        Returns:
          (which points have a position, their `Visibility`).

        Raises:
          InputError: a value does not have the format of the file.
        """
        states = [parse_state(value) for value in values]
        for value, state in zip(values, states, strict=True):
            if state is None:
                continue
            if not (0 <= state <= 1 if self.probabilities else state in (0, 1, 2)):
                mixed = (
                    ", and other values of the file are not probabilities" if math.isfinite(state) and state % 1 else ""
                )
                raise InputError(
                    f"{location}: visibility {quoted(value)} is not {EXPECTED[self.probabilities]}{mixed}: correct it"
                )
        positioned = np.array([state != 0 for state in states], bool)
        if not self.distinguishes_hidden:
            return positioned, Visibility.UNKNOWN
        return positioned, np.array([self._visibility(state) for state in states], np.int8)

    def _visibility(self, state: int | float | None) -> Visibility:
        if state is None or state == 0:
            return Visibility.UNKNOWN
        hidden = state < 0.5 if self.probabilities else state == 1
        return Visibility.OCCLUDED if hidden else Visibility.VISIBLE


def detect_states_format(values: Iterable[Any]) -> StatesReader:
    """Detect the visibility format of a file from all of its `values`."""
    states = [state for value in values if (state := parse_state(value)) is not None]
    fractions = any(math.isfinite(state) and state % 1 for state in states)
    probabilities = fractions and all(0 <= state <= 1 for state in states)
    return StatesReader(probabilities=probabilities, distinguishes_hidden=probabilities or 2 in states)


def parse_state(value: Any) -> int | float | None:
    """Return a value as a number; None if it is missing, NaN if it is not valid."""
    if isinstance(value, bool):
        return BOOLEANS[str(value).lower()]
    if isinstance(value, str):
        word = value.strip().lower()
        if word in MISSING_VALUES or word in BOOLEANS:
            return BOOLEANS.get(word)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    number = parse_json_number(value)
    return math.nan if number is None else number if abs(number) < 1e9 else math.inf
