# SPDX-License-Identifier: BSD-2-Clause
"""Errors between an object file and a running probe, one class for each that callers distinguish."""

from __future__ import annotations

TOO_MANY_FILES = "too many open files: raise the limit, as with `ulimit -n 1024`"


class BadObject(ValueError):
    """The file is not a BPF object that could run on any machine like this one."""


class BadSetting(ValueError):
    """A setting that the object does not have, or a value that does not fit it."""


class KernelError(RuntimeError):
    """The kernel refused, not because a feature is missing. ``program`` names the refused one, if it is one."""

    program = ""


class Unsupported(KernelError):
    """This kernel or machine lacks something: the only reason to skip a test.

    ``missing`` names it: a hook, map type, helper, BTF field. ``of_kind`` says that all programs of one kind lack it.
    """

    of_kind = False

    def __init__(self, missing: str, sentence: str = "") -> None:
        super().__init__(sentence or f"not supported by this kernel: {missing}")
        self.missing = missing


class Absent(Unsupported):
    """The hook does not exist: a tracepoint, a function, a counter. ``sentence`` says so."""

    def __init__(self, sentence: str, missing: str = "") -> None:
        super().__init__(missing or sentence, sentence)


class NoPlace(KernelError):
    """The file to attach to, or the place in it, does not exist."""


class NotPermitted(KernelError):
    """The process lacks privileges."""


class VerifierError(KernelError):
    """The verifier refused a program. The message is its last informative line, ``log`` is the whole output."""

    def __init__(self, program: str, line: str, log: str) -> None:
        super().__init__(f"the verifier refused {program}: {line}")
        self.program = program
        self.line = line
        self.log = log


class MapChanged(KernelError):
    """A map that new programs would go on with holds other things than they expect.

    ``map`` is its name, ``member`` what of it differs (empty for the map itself), ``before`` and ``after`` what that
    was and is.
    """

    def __init__(self, owner: str, map_: str, member: str, before: str, after: str) -> None:
        what = f"{member} of map {map_}" if member else f"map {map_}"
        super().__init__(f"{owner}: {what} is {after} and was {before}: what it holds does not fit the new programs")
        self.map = map_
        self.member = member
        self.before = before
        self.after = after
