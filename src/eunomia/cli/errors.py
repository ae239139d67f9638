# SPDX-License-Identifier: BSD-2-Clause
"""What a user is told when a command fails: one line, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


class UsageError(ValueError):
    """An option's value, or options that do not go together; exit code 2."""


def say(message: str) -> None:
    """Write one line to stderr; what a file or a container put into it is escaped."""
    from eunomia.sinks.escape import escape

    sys.stderr.write(f"eunomia: {escape(message)}\n")


def say_fault(sentence: str, error: Exception) -> None:
    """Write what failed while the run goes on; with EUNOMIA_DEBUG=1 where, too."""
    if os.environ.get("EUNOMIA_DEBUG", "0") not in {"", "0"}:
        import traceback

        traceback.print_exception(error)
    say(sentence)


def need_proc() -> None:
    """Refuse to say whose anything is where /proc is not mounted."""
    from eunomia.kernel.diagnose import no_proc

    if absent := no_proc():
        raise absent


def say_without_cgroups() -> None:
    """Say that nobody can be told whose they are, where no hierarchy is mounted that has containers."""
    from eunomia.containers.cgroup_files import mount_point

    if mount_point() is None:
        say(
            "containers cannot be told apart, for no cgroup hierarchy is mounted that has any: "
            "mount -t cgroup2 none /sys/fs/cgroup"
        )


def no_such_command(word: str, commands: Sequence[str]) -> UsageError:
    """Return the error for a first word that is no command."""
    import difflib

    from eunomia import tracker

    if "/" in word or word.endswith(".o") or word in tracker.built_in():
        return UsageError(f"there is no command '{word}': to run it, write eunomia run {word}")
    close = difflib.get_close_matches(word, commands, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(commands)}"
    return UsageError(f"there is no command '{word}': {hint}")


def failed(error: Exception) -> int:
    """Say what went wrong; return the exit code: 2 for what the command line got wrong, else 1."""
    from eunomia.kernel.errors import BadObject, BadSetting, KernelError, VerifierError
    from eunomia.source import NoSuchTracker

    debug = os.environ.get("EUNOMIA_DEBUG", "0") not in {"", "0"}
    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, UsageError | BadSetting | NoSuchTracker):
        say(str(error))
        return 2
    if isinstance(error, VerifierError):
        if debug:
            sys.stderr.write(_lines_escaped(error.log))
        say(f"{error} (EUNOMIA_DEBUG=1 shows the verifier's whole log)")
    elif isinstance(error, BadObject | KernelError):
        say(str(error))
    elif isinstance(error, OSError):
        say(_of_system(error))
    else:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        say(f"{what}: this is a fault of eunomia's own, please report it with what EUNOMIA_DEBUG=1 shows")
    return 1


def _of_system(error: OSError) -> str:
    import errno

    from eunomia.kernel.errors import TOO_MANY_FILES

    if error.errno == errno.EMFILE:  # whatever it was that was not opened
        return TOO_MANY_FILES
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)}: {reason}"
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO}
    return f"the output cannot be written: {reason}" if full else reason


def _lines_escaped(text: str) -> str:
    from eunomia.sinks.escape import escape

    return "".join(f"{escape(line.expandtabs())}\n" for line in text.splitlines())
