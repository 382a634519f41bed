"""Errors that the command line reports in one line: user errors (status 2) and interrupted training (status 0)."""

from wing_jax.text import one_line


class InputError(ValueError):
    """A file, a folder or an argument is invalid; the message names it and says how to fix it.

    The message is always one printable line, whatever names and values it contains.

    Args:
      message: what is wrong, where, and what to do.

    >>> import wing_jax as wj
    >>> try:
    ...     wj.FaceSet.from_arrays([], [], scheme="mtfl5")
    ... except wj.InputError as error:
    ...     print(error)
    images: the list is empty: pass at least one face
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class NoFacesError(InputError):
    """A split of a data set has no faces: none of its files is there."""


class TrainingInterrupted(Exception):
    """Training was asked to stop and has saved its state; the message names the step.

    `all_processes` is true if all processes of the training run have stopped and saved.
    """

    def __init__(self, message: str, *, all_processes: bool = True):
        super().__init__(one_line(message))
        self.all_processes = all_processes
