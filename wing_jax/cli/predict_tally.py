"""How a run of `wing-jax predict` goes: what could not be done is named at once and counted, the rest goes on."""

import dataclasses
import errno
import sys

from wing_jax.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # for no result at all


@dataclasses.dataclass
class Tally:
    """What has become of the inputs so far."""

    done: int = 0  # photos and videos
    unread: int = 0  # inputs that could not be read
    undone: int = 0  # inputs that were read, but for which nothing could be found or written
    faces: int = 0  # in photos
    without: int = 0  # photos without a face

    def fail(self, error: InputError, *, read: bool = False) -> None:
        """Name an input that could not be done on standard error, and count it; `read`: it could be read.

        Raises:
          InputError: `error` itself, where the disk is full or read-only: other inputs would fare no better.
        """
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM:
            raise error
        print(f"wing-jax: {error}", file=sys.stderr, flush=True)
        self.undone += read
        self.unread += not read

    def add(self, *, faces: int) -> None:
        """Count a photo that is done, in which so many faces were found."""
        self.done += 1
        self.faces += faces
        self.without += not faces

    @property
    def inputs(self) -> int:
        """How many inputs are done, or cannot be."""
        return self.done + self.failed

    @property
    def failed(self) -> int:
        """How many inputs could not be done."""
        return self.unread + self.undone

    @property
    def status(self) -> int:
        """The exit status: 0 where all inputs were done, 1 where some were, 2 where none was."""
        if not self.failed:
            return 0
        return 1 if self.done else 2

    def photos(self) -> str:
        """The photos in one line, before there are videos."""
        said = [f"{self.done} picture{'s' * (self.done != 1)}, {self.faces} face{'s' * (self.faces != 1)}"]
        said += [f"no face found in {self.without}"] if self.without else []
        said += [f"{self.unread} could not be read"] if self.unread else []
        said += [f"{self.undone} could not be done"] if self.undone else []
        return ", ".join(said)
