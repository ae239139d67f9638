# SPDX-License-Identifier: BSD-2-Clause
"""What the package needs of :mod:`typing` at run time, without importing it.

``typing`` imports ``re`` and ``enum`` (Python 3.11), which nearly doubles the time that an interpreter takes to
start. Type checkers see the real names; what is not here comes from ``typing`` when it is asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import (
        Any,
        Generic,
        Literal,
        NamedTuple,
        NoReturn,
        Protocol,
        Self,
        TypeAlias,
        TypeVar,
        cast,
        overload,
        runtime_checkable,
    )
else:
    from collections import namedtuple as _namedtuple

    class _Subscripted:
        """A name that annotations use, subscribed or not; also a base class."""

        def __class_getitem__(cls, item):
            return cls

    class Any(_Subscripted):
        """Any type."""

    class Generic(_Subscripted):
        """The base of generic classes."""

    Literal = NoReturn = Self = TypeAlias = Any

    class _NamedTupleType(type):
        def __new__(mcs, name, bases, namespace):
            fields = namespace["__annotations__"]
            defaults = [namespace[field] for field in fields if field in namespace]
            made = _namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            made.__annotations__ = fields
            for key, value in namespace.items():
                if key not in fields and key not in {"__annotations__", "__module__"}:
                    setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_NamedTupleType, "NamedTuple", (), {})

    class _ProtocolType(type):
        def __instancecheck__(cls, instance):
            members = cls.__dict__.get("_checked")
            if members is None:
                return type.__instancecheck__(cls, instance)
            return all(hasattr(instance, name) for name in members)

    class Protocol(_Subscripted, metaclass=_ProtocolType):
        """A set of methods and attributes."""

    def runtime_checkable(protocol):
        """Have ``isinstance`` ask whether an object has a protocol's members."""
        members = {n for c in protocol.__mro__ if type(c) is _ProtocolType for n in (*vars(c), *_annotated(c))}
        protocol._checked = frozenset(n for n in members if not n.startswith("_"))
        return protocol

    def _annotated(class_):
        return vars(class_).get("__annotations__", ())

    def TypeVar(name, *constraints, **options):
        """Return a stand-in for a type."""
        return Any

    def overload(function):
        """Return a signature that type checkers alone read."""
        return function

    def cast(kind, value):
        """Return the value."""
        return value

    def __getattr__(name):
        if name.startswith("__"):  # the import system asks
            raise AttributeError(name)
        import typing

        return getattr(typing, name)


__all__ = [
    "TYPE_CHECKING", "Any", "Generic", "Literal", "NamedTuple", "NoReturn", "Protocol", "Self", "TypeAlias", "TypeVar",
    "cast", "overload", "runtime_checkable",
]  # fmt: skip
