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
    from collections import _tuplegetter

    class _Subscripted:
        """A name that annotations use, subscribed or not; also a base class."""

        def __class_getitem__(cls, item):
            return cls

    class Any(_Subscripted):
        """Any type."""

    class Generic(_Subscripted):
        """The base of generic classes."""

    Literal = NoReturn = Self = TypeAlias = Any

    class _Record(tuple):
        """What all named tuples have."""

        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **values):
            made = self._make(map(values.pop, self._fields, self))
            if values:
                raise ValueError(f"got unexpected field names: {[*values]!r}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            shown = ", ".join([f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)])
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)

    _codes = {}

    def _constructor(fields, defaults):
        """Return ``__new__`` of a named tuple.

        collections.namedtuple() compiles one for each class, which takes as long as a small module's import; those of
        as many fields have the same code but for names.
        """
        code = _codes.get(len(fields))
        if code is None:
            names = ", ".join([f"f{i}" for i in range(len(fields))])
            code = _codes[len(fields)] = eval(f"lambda cls, {names}: new(cls, ({names},))").__code__  # noqa: S307
        code = code.replace(co_varnames=("cls", *fields), co_name="__new__")
        return type(_constructor)(code, {"new": tuple.__new__, "__builtins__": {}}, "__new__", defaults)

    class _NamedTupleType(type):
        def __new__(mcs, name, bases, namespace):
            fields = (*namespace["__annotations__"],)
            defaults = {field: namespace[field] for field in fields if field in namespace}
            getters = {field: _tuplegetter(index, None) for index, field in enumerate(fields)}
            made = {
                "__slots__": (), "_fields": fields, "_field_defaults": defaults, "__match_args__": fields,
                "__new__": _constructor(fields, (*defaults.values(),)),
            }  # fmt: skip
            return type(name, (_Record,), {**namespace, **getters, **made})

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
