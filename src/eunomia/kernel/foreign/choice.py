# SPDX-License-Identifier: BSD-2-Clause
"""Chooses which programs of a foreign object run, and explains why the others do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from eunomia.kernel import iterator, targets
from eunomia.kernel.diagnose import kind
from eunomia.kernel.errors import Absent, BadSetting, KernelError, NotPermitted, Unsupported, VerifierError
from eunomia.kernel.foreign import twins
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.perf_events import CLOCK
from eunomia.kernel.spec import PROG_ARRAY, Program, Spec, is_iterator
from eunomia.typing import Any, NamedTuple

_ALL = 1000  # programs of one object; each failure removes one, so that the attempts end
_SHOWN = 5  # reasons in one sentence


class Wish(NamedTuple):
    """The user's choices for an object: patterns of programs to run and to leave out, and their targets."""

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    targets: Mapping[str, Sequence[str]] = {}


class Plan(NamedTuple):
    """``run`` are loaded and attached; ``called`` are only loaded, for tail calls.

    ``left_out`` has the reasons why other programs do not run; those that the user excluded are in none of the three.
    ``twins`` are those of ``left_out`` that a better program replaces, with its name.
    """

    run: list[Program]
    called: list[Program]
    left_out: dict[str, Exception]
    twins: dict[str, str]


def plan(spec: Spec, wish: Wish, failed: Mapping[str, Exception] = {}) -> Plan:
    """Return which programs of an object to run, without those that ``failed``.

    Raises :class:`BadSetting` if the wish is contradictory or names something that does not exist.
    """
    _check_names(spec, wish)
    exact = {*wish.targets, *(n for n in wish.only if n in {p.name for p in spec.programs})}
    called = _tail_called(spec)
    left_out: dict[str, Exception] = {}
    wanted = []
    for program in spec.programs:
        name = program.name
        if name in called or _matches(name, wish.skip):
            continue
        if wish.only and not _matches(name, wish.only) and name not in wish.targets:
            continue
        if program.optional and not wish.only and name not in exact:
            left_out[name] = KernelError(f"the section (?{program.section}) disables it: --program {name} runs it")
        else:
            wanted.append(program)
    ready = []
    for program in wanted:
        given = wish.targets.get(program.name, ())
        error = failed.get(program.name) or _no_object(spec, program, given) or targets.obstacle(program, wanted, given)
        if error is None:
            ready.append(program)
        elif program.name in exact:
            raise error
        else:
            left_out[program.name] = error
    lost = {n: p for n, p in twins.losers(spec.data, ready).items() if n not in exact}
    for name, better in lost.items():
        left_out[name] = KernelError(f"{better.name} ({better.section}) does the same")
    run = [p for p in ready if p.name not in lost]
    _check_devices(run, wish.targets)
    tails = [p for p in spec.programs if p.name in called] if run else []
    return Plan(run, tails, left_out, {n: p.name for n, p in lost.items()})


def load(spec: Spec, wish: Wish, **options: Any) -> tuple[Plan, Loaded]:
    """Load and attach the programs of an object that can run; return the choice, and the live object.

    Of twins the best that works is used. Raises what :class:`Loaded` raises if nothing can run.
    """
    failed: dict[str, Exception] = {}
    for _ in range(_ALL):
        chosen = plan(spec, wish, failed)
        if not chosen.run:
            raise _none(spec, chosen)
        names = [p.name for p in [*chosen.run, *chosen.called]]
        try:
            live = Loaded.attached(
                spec, programs=names, unattached=[p.name for p in chosen.called], targets=wish.targets,
                skip_refused=True, **options,
            )  # fmt: skip
        except KernelError as error:
            found = _to_leave_out(error, chosen)
            if not found:
                raise
            failed |= found
            continue
        if not live.refused:
            return chosen, live
        failed |= live.refused
        again = plan(spec, wish, failed)
        if again.run and {p.name for p in again.run} <= set(names):  # there is no replacement for those that failed
            return again, live
        live.close()
    raise KernelError(f"{spec.name}: more of its programs fail than can be tried")


def sentences(spec: Spec, chosen: Plan, given: Mapping[str, Sequence[str]] = {}) -> list[str]:
    """Return notes on a choice: what was left out, one sentence for each reason, and what was assumed."""
    reasons: dict[str, list[str]] = {}
    names = {p.name: p for p in spec.programs}
    for name, error in chosen.left_out.items():
        half = twins.other_half(names[name], chosen.run) if name not in chosen.twins else None
        alone = f"; {half.name} runs without it, so values that need both are missing or wrong" if half else ""
        reasons.setdefault(_reason(name, error) + alone, []).append(name)
    notes = [f"{_listed(who)} {'is' if len(who) == 1 else 'are'} left out: {why}" for why, who in reasons.items()]
    for program in chosen.run:
        if targets.family(program) == "perf_event" and program.name not in given:
            notes.append(f"{program.name} samples {CLOCK}: --attach {program.name}=EVENT[:RATE] for another event")
    return notes


def _reason(name: str, error: Exception) -> str:
    text = str(error)
    text = re.sub(rf"^program {re.escape(name)}( \([^)]*\))?:? ", "", text)
    text = re.sub(r", which \S+ needs$", "", text)  # one sentence for all of a kind
    return text.replace(f"--attach {name}=", "--attach PROGRAM=").replace(f"--program {name} ", "--program PROGRAM ")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_names(spec: Spec, wish: Wish) -> None:
    names = [p.name for p in spec.programs]
    there = f"it has {', '.join(names)}"
    for option, patterns in (("--program", wish.only), ("--skip-program", wish.skip)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise BadSetting(f"{option}: {spec.name} has no program {pattern!r}: {there}")
    for name in wish.targets:
        if name not in names:
            raise BadSetting(f"{spec.name} has no program {name!r}: {there}")
        if _matches(name, wish.skip):
            raise BadSetting(f"program {name}: --attach gives it a target, and --skip-program leaves it out")


def _check_devices(run: Sequence[Program], given: Mapping[str, Sequence[str]]) -> None:
    """Refuse two XDP programs on one device, where the kernel allows one."""
    taken: dict[str, str] = {}
    for program in run:
        if targets.family(program) != "xdp":
            continue
        for target in given.get(program.name, ()):
            device = target.partition(":")[0]
            other = taken.setdefault(device, program.name)
            if other != program.name:
                raise BadSetting(f"{device} takes one XDP program: choose one of {other} and {program.name}")


def _no_object(spec: Spec, program: Program, given: Sequence[str]) -> BadSetting | None:
    """Return why an iterator that needs a target, such as a map of the object, cannot run."""
    if given or not is_iterator(program):
        return None
    try:
        iterator.check(program, "", [m.name for m in spec.maps.values() if not m.internal])
    except BadSetting as error:
        return error
    return None


def _tail_called(spec: Spec) -> set[str]:
    """Return the programs in the initial content of a map of programs: they are called, not attached."""
    if not any(m.type == PROG_ARRAY for m in spec.maps.values()):
        return set()
    from eunomia.kernel.elf import references

    return references(spec.data, ".maps") & {p.name for p in spec.programs}


def _to_leave_out(error: KernelError, chosen: Plan) -> dict[str, Exception]:
    """Return the programs that failed to load and that the others do not need."""
    name = error.program
    if isinstance(error, VerifierError) and name not in chosen.twins.values():
        if len(chosen.run) > 1:
            error.args = (f"{error}; --skip-program {name} leaves it out",)
        return {}
    program = next((p for p in chosen.run if p.name == name), None)
    if program is None or not isinstance(error, Unsupported | VerifierError):
        return {}
    if isinstance(error, Unsupported) and error.of_kind:
        alike = [p for p in chosen.run if kind(p.section) == kind(program.section)]
        return {p.name: error for p in alike}
    return {name: error}


def _none(spec: Spec, chosen: Plan) -> Exception:
    """Return the error for an object of which nothing can run."""
    errors = list(chosen.left_out.values())
    if not errors:
        return BadSetting(f"{spec.name}: --skip-program leaves none of its programs")
    alike = {str(e) for e in errors}
    first = errors[0]
    if len(alike) == 1 and (len(errors) == 1 or isinstance(first, Unsupported)):
        if isinstance(first, Unsupported | NotPermitted | BadSetting):
            return first
        return KernelError(
            f"{spec.name}: {_listed(list(chosen.left_out))}: {_reason(next(iter(chosen.left_out)), first)}"
        )
    notes = [s.replace(" is left out", "").replace(" are left out", "") for s in sentences(spec, chosen)]
    more = [f"{len(notes) - _SHOWN} more reasons, which eunomia info shows"] if len(notes) > _SHOWN else []
    text = "; ".join([*notes[:_SHOWN], *more])
    if all(isinstance(e, BadSetting) for e in errors):
        return BadSetting(f"{spec.name}: say which of its programs to run, and on what: {text}")
    if all(isinstance(e, Unsupported) for e in errors):
        return Absent(f"{spec.name}: none of its programs can run on this kernel: {text}")
    return KernelError(f"{spec.name}: none of its programs can run: {text}")
