"""The one exception for what a user can mend: the command line prints it as one line and exits with status 2."""


class InputError(ValueError):
    """A file, a folder or an argument is not as it must be; the message names it and says how to mend it."""
