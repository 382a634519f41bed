"""What the command line reports in one line: what a user can fix (status 2), and that it was stopped (status 0)."""

from wing_jax.text import one_line


class InputError(ValueError):
    """A file, a folder or an argument is not as it must be; the message names it and says how to fix it.

    The message is one printable line, whatever the names and values in it hold.

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


class TrainingInterrupted(Exception):
    """A training was asked to end and has saved what it had; the message says where it stands.

    `together`: so have all its processes, if there are several.
    """

    def __init__(self, message: str, *, together: bool = True):
        super().__init__(one_line(message))
        self.together = together
