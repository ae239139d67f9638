# SPDX-License-Identifier: BSD-2-Clause
"""Errors of commands: one line for the user, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


class UsageError(ValueError):
    """A wrong value of an option, or options that exclude each other; exit code 2."""


def say(message: str) -> None:
    """Write one line to stderr, with text from files and containers escaped."""
    from eunomia.sinks.escape import escape

    sys.stderr.write(f"eunomia: {escape(message)}\n")


def say_fault(sentence: str, error: Exception) -> None:
    """Report a failure after which the run goes on; with EUNOMIA_DEBUG=1 also where it was."""
    if os.environ.get("EUNOMIA_DEBUG", "0") not in {"", "0"}:
        import traceback

        traceback.print_exception(error)
    say(sentence)


def need_proc() -> None:
    """Raise an error if /proc is not mounted, without which no container can be found."""
    from eunomia.kernel.diagnose import no_proc

    if absent := no_proc():
        raise absent


def say_without_cgroups() -> None:
    """Report that containers cannot be found if no cgroup hierarchy is mounted that has any."""
    from eunomia.containers.cgroup_files import mount_point

    if mount_point() is None:
        say(
            "containers cannot be found: no cgroup hierarchy that has any is mounted: "
            "mount -t cgroup2 none /sys/fs/cgroup"
        )


def no_such_command(word: str, commands: Sequence[str]) -> UsageError:
    """Return the error for a first word that is not a command."""
    import difflib

    from eunomia import tracker

    if "/" in word or word.endswith(".o") or word in tracker.built_in():
        return UsageError(f"there is no command '{word}': to run it, write eunomia run {word}")
    close = difflib.get_close_matches(word, commands, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(commands)}"
    return UsageError(f"there is no command '{word}': {hint}")


def failed(error: Exception) -> int:
    """Report an error; return the exit code: 2 for errors of the command line, else 1."""
    from eunomia.kernel.errors import BadObject, BadSetting, KernelError, VerifierError
    from eunomia.oci.errors import BadReference, DistributionError
    from eunomia.source import NoSuchTracker

    debug = os.environ.get("EUNOMIA_DEBUG", "0") not in {"", "0"}
    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, UsageError | BadSetting | NoSuchTracker | BadReference):
        say(str(error))
        return 2
    refused = _of_server(error)
    if refused:
        say(refused[1])
        return refused[0]
    if isinstance(error, VerifierError):
        if debug:
            sys.stderr.write(_lines_escaped(error.log))
        say(f"{error} (EUNOMIA_DEBUG=1 shows the verifier's whole log)")
    elif isinstance(error, BadObject | KernelError | DistributionError):
        say(str(error))
    elif isinstance(error, OSError):
        say(_of_system(error))
    else:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        say(f"{what}: this is a bug in eunomia, please report it with the output of EUNOMIA_DEBUG=1")
    return 1


def _of_server(error: Exception) -> tuple[int, str] | None:
    """Return the exit code and the sentence for an error that a server has answered with."""
    if "eunomia.client" not in sys.modules:
        return None
    from eunomia.cli.host import told
    from eunomia.client import ApiProblem

    return (2 if error.is_usage else 1, told(error)) if isinstance(error, ApiProblem) else None


def _of_system(error: OSError) -> str:
    import errno

    from eunomia.kernel.errors import TOO_MANY_FILES

    if error.errno == errno.EMFILE:  # whichever file could not be opened
        return TOO_MANY_FILES
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)}: {reason}"
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO}
    return f"the output cannot be written: {reason}" if full else reason


def _lines_escaped(text: str) -> str:
    from eunomia.sinks.escape import escape

    return "".join(f"{escape(line.expandtabs())}\n" for line in text.splitlines())
