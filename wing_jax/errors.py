"""What the command line tells in one line: what a user can mend (status 2), and that it was stopped (status 0)."""


class InputError(ValueError):
    """A file, a folder or an argument is not as it must be; the message names it and says how to mend it."""


class Stopped(Exception):
    """A training was asked to end and has saved what it had; the message says where it stands.

    `together`: so have all its processes, if there are several.
    """

    def __init__(self, message: str, *, together: bool = True):
        super().__init__(message)
        self.together = together
