"""Run one command. What the user can fix is printed as one line, with exit status 2."""

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
    "train": "train both stages from a config, or resume a run that was stopped",
    "sweep": "train the first stage with many seeds, losses and learning rates at once",
    "config": "print a preset's config file, to edit it and train with it",
    "evaluate": "measure a model on a test set and write a report",
    "calibrate": "fit how sure a model's landmarks are, on faces that it was not trained on",
    "predict": "find the landmarks of faces in pictures and videos, draw them and save them",
    "compare": "compare evaluations by group of faces, in a table and a plot",
    "data": "check, show, count, label or pack a data set, your own or a published one",
    "reproduce": "repeat a table or figure of the paper",
    "analyze": "plot which errors cause the gradients of the losses: in theory, for a model, and in training",
    "export": "convert a model for ONNX Runtime, TensorFlow, TFLite or another StableHLO compiler, and check it",
    "replay": "show the step at which training diverged: its faces, their losses, its gradient",
    "devices": "print the devices that JAX uses, and the settings that wing_jax sets",
}
TRAINING = ("train", "sweep", "reproduce")  # these save and stop when the scheduler sends SIGTERM

# The disk is full, or the user may not write to it.
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
# The name is too long, or there is a file where a folder must be.
NAME_ERRORS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP)
SIGPIPE_STATUS = 128 + 13  # the exit status of a program that SIGPIPE ends

# New objects between two garbage collections. Importing and tracing make many objects that stay; Python's own
# threshold of 700 delays the first step (benchmarks/startup.py).
GARBAGE_THRESHOLD = 100_000


def main(arguments: list[str] | None = None) -> None:
    """Run one command of `COMMANDS`; each is a module of `wing_jax.cli` with a function `run(arguments)`."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] not in COMMANDS:
        stop_with_usage(words, _usage(), kind="command", known=COMMANDS)
    if arguments is None and words[0] in TRAINING:
        allocator.reexec_with_malloc_env()
    gc.set_threshold(GARBAGE_THRESHOLD)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may have characters that the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        with termination.handle_sigterm(last=arguments is None) if words[0] in TRAINING else contextlib.nullcontext():
            from wing_jax.runtime import devices

            devices.prepare_xla()
            with _check_jax_on_failure(), devices.default_settings():
                importlib.import_module(f"wing_jax.cli.{words[0]}").run(words[1:])
                if sys.stdout is not None:
                    sys.stdout.flush()
    except InputError as error:
        print(f"wing-jax: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SIGPIPE_STATUS)
    except OSError as error:
        if error.errno not in (*WRITE_ERRORS, *NAME_ERRORS):
            raise
        target = error.filename or "the output of this command"
        hint = "free disk space or fix permissions" if error.errno in WRITE_ERRORS else "choose another name or folder"
        print(f"wing-jax: {one_line(f'{target}: {error.strerror}: {hint}')}", file=sys.stderr)
        sys.exit(2)
    except TrainingInterrupted as interruption:
        command = printable(shlex.join(["wing-jax", *words]))
        print(f"wing-jax: {interruption}; to resume: {command}", file=sys.stderr, flush=True)
        if not interruption.all_processes:
            termination.exit_now()
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
        print(f"wing-jax: {_out_of_memory(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        resume = f"; to resume: {printable(shlex.join(['wing-jax', *words]))}" if words[0] in TRAINING else ""
        print(f"wing-jax: stopped{resume}", file=sys.stderr)
        sys.exit(130)


def _out_of_memory(error: BaseException) -> str:
    detail = cut(one_line(str(error)), length=160) or "Python could not allocate more"
    return f"out of memory ({detail}): use fewer faces, smaller batches or smaller pictures, or close other programs"


@contextlib.contextmanager
def _check_jax_on_failure() -> Generator[None]:
    """Report that JAX cannot start, where that is the cause, instead of the error that follows from it."""
    try:
        yield
    except (RuntimeError, AssertionError):
        processes.check_jax()
        raise


def _usage() -> str:
    rows = "\n".join(f"  {name:9} {about}" for name, about in COMMANDS.items())
    return f"usage: wing-jax COMMAND ...\n\n{rows}\n\n`wing-jax COMMAND --help` lists the options of a command."
