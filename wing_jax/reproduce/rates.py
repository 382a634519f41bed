"""Tune the learning rate of each loss by one rule.

Every loss is trained with CNN-6, without HSM, with the first seed, at the recipe's learning rates times
10 ** -0.5, 1 and 10 ** 0.5. The multiple with the lowest NME on the held-out training faces is selected. If that is
the smallest or the largest multiple tried, the next one is tried, too, and so on up to 10 ** +-2. The multiple applies
to both stages, with and without HSM. The test faces are not used. The budget "long" uses the multiples tuned at
"short".
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from wing_jax.reproduce.recipes import RATES_OF, SLOWER_L2
from wing_jax.reproduce.runner import METHODS, ExperimentRunner, Variant

Tried: TypeAlias = dict[int, float]  # half decades from the recipe's rate: validation NME (fraction)
START, LAST = (-1, 0, 1), 4  # half decades


def rates(runner: ExperimentRunner, losses: Sequence[str]) -> dict[str, float]:
    """Return the multiple of the recipe's learning rates for each loss: tuned, or the paper's if the recipe says so."""
    if source := RATES_OF.get(runner.recipe.budget):
        return rates(runner.at(source), losses)
    if not runner.recipe.tuned:
        return {loss: SLOWER_L2 if loss == "l2" else 1.0 for loss in losses}
    tried = {loss: tried_rates(runner, loss, losses) for loss in losses}
    results = {loss: {f"{multiple(step):.4g}": _or_none(nme) for step, nme in tried[loss].items()} for loss in losses}
    (runner.folder / "rates.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return {loss: multiple(best(tried[loss])) for loss in losses}


def tried_rates(runner: ExperimentRunner, loss: str, company: Sequence[str] = ()) -> Tried:
    """Return all rates tried for `loss`; the losses of `company` are trained in the same sweep at the first rates."""
    method, seed = METHODS[0], runner.recipe.config.seed

    def variant(name: str, step: int) -> Variant:
        return Variant(loss=runner.recipe.loss(name), rate=multiple(step), seed=seed)

    runner.train([method], [variant(name, step) for name in company or (loss,) for step in START])
    tried = {step: runner.validation_nme(method, variant(loss, step)) for step in START}
    while (further := beyond(tried)) is not None:
        runner.train([method], [variant(loss, further)])
        tried[further] = runner.validation_nme(method, variant(loss, further))
    return dict(sorted(tried.items()))


def beyond(tried: Tried) -> int | None:
    """Return the next step to try if the best one is the first or the last tried; None if the search is complete."""
    chosen = best(tried)
    if chosen == min(tried) and chosen > -LAST:
        return chosen - 1
    if chosen == max(tried) and chosen < LAST:
        return chosen + 1
    return None


def best(tried: Tried) -> int:
    """Return the step with the lowest NME, the smaller step if two are equal."""
    return min(sorted(tried), key=tried.__getitem__)


def multiple(step: int) -> float:
    """Return the multiple of the recipe's learning rate for a step (half a decade)."""
    return float(f"{10 ** (step / 2):.4g}")


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
