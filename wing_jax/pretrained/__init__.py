"""Pretrained models in float16; `Localizer.load(NAME)` loads one.

Each is in a folder of its name, with a card (`CARD.md`) about its training data, terms of use, accuracy and weaknesses.
"""

from pathlib import Path

from wing_jax.text import quoted

FOLDER = Path(__file__).parent


def models() -> tuple[str, ...]:
    """Return the names of the pretrained models."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/model.json")))


def card(name: str) -> str:
    """Return the model's card as Markdown.

    Raises:
      KeyError: there is no pretrained model of this name.
    """
    if name not in models():
        raise KeyError(f"no pretrained model is called {quoted(name)}: use one of {', '.join(models())}")
    return (FOLDER / name / "CARD.md").read_text(encoding="utf-8")
