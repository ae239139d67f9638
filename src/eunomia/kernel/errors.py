# SPDX-License-Identifier: BSD-2-Clause
"""What can go wrong between an object file and a running probe, as callers need to tell it apart."""

from __future__ import annotations

TOO_MANY_FILES = "too many open files: raise the limit, as with `ulimit -n 1024`"


class BadObject(ValueError):
    """The file is not a BPF object that could run on any machine like this one."""


class BadSetting(ValueError):
    """A setting that the object does not have, or a value that does not fit it."""


class KernelError(RuntimeError):
    """The kernel refused, and not for want of a feature. ``program`` names the one that it refused, where it is one."""

    program = ""


class Unsupported(KernelError):
    """This kernel, or what runs it, lacks something: the one good reason to skip a test.

    ``missing`` names it: a hook, map type, helper, BTF field. ``of_kind`` says that all programs of one kind lack it.
    """

    of_kind = False

    def __init__(self, missing: str, sentence: str = "") -> None:
        super().__init__(sentence or f"not supported by this kernel: {missing}")
        self.missing = missing


class Absent(Unsupported):
    """What is to be watched is not there: a tracepoint, a function, a counter. ``sentence`` says so."""

    def __init__(self, sentence: str, missing: str = "") -> None:
        super().__init__(missing or sentence, sentence)


class NoPlace(KernelError):
    """The file, or the place in it, that a program is to hang on is not there."""


class NotPermitted(KernelError):
    """The process lacks the rights."""


class VerifierError(KernelError):
    """The verifier refused a program. The message is its last telling line, ``log`` is all it said."""

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
