"""Choose the command; print what a user can mend as one line and exit with status 2."""

import contextlib
import errno
import gc
import importlib
import io
import os
import shlex
import sys
from collections.abc import Generator

from wing_jax.cli.usage import stop_with_usage
from wing_jax.errors import InputError, TrainingInterrupted
from wing_jax.runtime import allocator, memory, processes, termination
from wing_jax.text import cut, one_line, printable

COMMANDS = {
    "train": "train both stages as a config says, or go on where an earlier run stopped",
    "sweep": "train the first stage with many seeds, losses and learning rates as one program",
    "config": "print the config file of a preset, to change it and to train by it",
    "evaluate": "measure a model on a test set and write a report",
    "predict": "draw and write the landmarks of faces in pictures",
    "compare": "set several evaluations beside each other, by group of faces",
    "data": "check, show, count, measure or pack a data set, of your own or a published one",
    "reproduce": "repeat a table or figure of the paper on the data at hand",
    "analyse": "draw what a loss makes of errors: alone, on a model, over a training",
    "export": "write a model for ONNX Runtime, TensorFlow, TFLite or another StableHLO compiler, and check it",
    "replay": "show the step at which a training diverged: its faces, their losses, its gradient",
    "devices": "print what JAX works on, and the settings made for it",
}
TRAINING = ("train", "sweep", "reproduce")  # what saves and ends where the scheduler asks for it

# What the system says of a disk that is full, or closed to the user.
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
PIPE_CLOSED = 128 + 13  # the status of a program that SIGPIPE ends
# And of a name that it does not take: too long, or a file where a folder must be.
NOT_NAMED = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP)

# New objects between two looks for garbage. Importing and tracing make many that stay; Python's own 700
# delay the first step (benchmarks/startup.py).
GARBAGE_EVERY = 100_000


def main(arguments: list[str] | None = None) -> None:
    """Run one command of `COMMANDS`; each is a module of `wing_jax.cli` with a function `run(arguments)`."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] not in COMMANDS:
        stop_with_usage(words, _usage(), kind="command", known=COMMANDS)
    if arguments is None and words[0] in TRAINING:
        allocator.reexec_with_malloc_env()
    gc.set_threshold(GARBAGE_EVERY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    try:
        with termination.handle_sigterm(last=arguments is None) if words[0] in TRAINING else contextlib.nullcontext():
            from wing_jax.runtime import devices

            devices.prepare_xla()
            with _said_of_jax(), devices.usual_settings():
                importlib.import_module(f"wing_jax.cli.{words[0]}").run(words[1:])
                if sys.stdout is not None:
                    sys.stdout.flush()
    except InputError as error:
        print(f"wing-jax: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever reads the output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except OSError as error:
        if error.errno not in (*NOT_WRITTEN, *NOT_NAMED):
            raise
        what = error.filename or "what this command writes"
        hint = "make room or mend permissions" if error.errno in NOT_WRITTEN else "choose another name or folder"
        print(f"wing-jax: {one_line(f'{what}: {error.strerror}: {hint}')}", file=sys.stderr)
        sys.exit(2)
    except TrainingInterrupted as stopped:
        again = printable(shlex.join(["wing-jax", *words]))
        print(f"wing-jax: {stopped}; to go on: {again}", file=sys.stderr, flush=True)
        if not stopped.together:
            termination.exit_now()
    except Exception as error:
        if not memory.ran_out(error):
            raise
        print(f"wing-jax: {_out_of_memory(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("wing-jax: stopped; `wing-jax train` goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _out_of_memory(error: BaseException) -> str:
    said = cut(one_line(str(error)), length=160) or "Python could not allocate more"
    return f"out of memory ({said}): use fewer faces, smaller batches or smaller pictures, or close other programs"


@contextlib.contextmanager
def _said_of_jax() -> Generator[None]:
    """Where JAX cannot start at all, that is said, and not what came of it."""
    try:
        yield
    except (RuntimeError, AssertionError):
        processes.check_jax()
        raise


def _usage() -> str:
    rows = "\n".join(f"  {name:9} {about}" for name, about in COMMANDS.items())
    return f"usage: wing-jax COMMAND ...\n\n{rows}\n\n`wing-jax COMMAND --help` says more."
