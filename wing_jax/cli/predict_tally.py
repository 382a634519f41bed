"""Count the inputs of a run of `wing-jax predict`; report failures at once and continue."""

import dataclasses
import errno
import sys

from wing_jax.errors import InputError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # full or read-only: no result can be written


@dataclasses.dataclass
class Tally:
    """The numbers of inputs done and failed so far."""

    done: int = 0  # photos and videos
    unread: int = 0  # inputs that could not be read
    undone: int = 0  # inputs that were read, but could not be predicted or written
    faces: int = 0  # in photos
    without_face: int = 0  # photos in which no face was found

    def fail(self, error: InputError, *, read: bool = False) -> None:
        """Print the error of an input on standard error, and count it; `read`: the input could be read.

        Raises:
          InputError: `error` itself, if the disk is full or read-only: other inputs would fail too.
        """
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_ERRORS:
            raise error
        print(f"wing-jax: {error}", file=sys.stderr, flush=True)
        self.undone += read
        self.unread += not read

    def add(self, *, faces: int) -> None:
        """Count a photo that is done, with this many faces."""
        self.done += 1
        self.faces += faces
        self.without_face += not faces

    @property
    def inputs(self) -> int:
        """The number of inputs done or failed."""
        return self.done + self.failed

    @property
    def failed(self) -> int:
        """The number of inputs that failed."""
        return self.unread + self.undone

    @property
    def status(self) -> int:
        """The exit status: 0 if all inputs were done, 1 if some failed, 2 if all did."""
        if not self.failed:
            return 0
        return 1 if self.done else 2

    def photos(self) -> str:
        """Return the counts of photos as one line. Call it before videos are counted."""
        counts = [f"{self.done} picture{'s' * (self.done != 1)}, {self.faces} face{'s' * (self.faces != 1)}"]
        counts += [f"no face found in {self.without_face}"] if self.without_face else []
        counts += [f"{self.unread} could not be read"] if self.unread else []
        counts += [f"{self.undone} could not be processed"] if self.undone else []
        return ", ".join(counts)
