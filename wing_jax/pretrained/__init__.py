"""The models in the box: trained, in float16, each in a folder of its name beside a card (`CARD.md`) that says on what
it was trained, under whose terms, how well it does and what it is bad at. `Localizer.load(NAME)` loads one."""

from pathlib import Path

from wing_jax.text import quoted

FOLDER = Path(__file__).parent


def models() -> tuple[str, ...]:
    """Names of the models in the box."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/model.json")))


def card(name: str) -> str:
    """The model's card, Markdown.

    Raises:
      KeyError: no model in the box is called so.
    """
    if name not in models():
        raise KeyError(f"no model in the box is called {quoted(name)}: use one of {', '.join(models())}")
    return (FOLDER / name / "CARD.md").read_text(encoding="utf-8")
