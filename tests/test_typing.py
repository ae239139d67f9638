# SPDX-License-Identifier: BSD-2-Clause
"""Named tuples of eunomia.typing do what those of the standard library do."""

import copy
import typing

import pytest

from eunomia.typing import NamedTuple


class Ours(NamedTuple):
    """Words."""

    a: int
    b: str = "x"
    c: tuple[int, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.a

    @classmethod
    def of(cls, a: int) -> "Ours":
        return cls(a)


class Theirs(typing.NamedTuple):
    """Words."""

    a: int
    b: str = "x"
    c: tuple[int, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.a

    @classmethod
    def of(cls, a: int) -> "Theirs":
        return cls(a)


BOTH = pytest.mark.parametrize("kind", [Ours, Theirs])


@BOTH
def test_it_is_made_of_its_fields_and_their_defaults(kind):
    assert kind(1) == (1, "x", ()) == kind(a=1) == kind.of(1) == kind._make([1, "x", ()])
    assert kind(1, c=(2,)) == (1, "x", (2,))
    assert (kind(3).a, kind(3).b, kind(3).twice) == (3, "x", 6)
    assert kind.__doc__ == "Words."
    assert (kind._fields, kind._field_defaults) == (("a", "b", "c"), {"b": "x", "c": ()})


@BOTH
@pytest.mark.parametrize("wrong", [
    lambda kind: kind(), lambda kind: kind(1, 2, 3, 4), lambda kind: kind(1, d=2), lambda kind: kind(1, a=1),
    lambda kind: kind._make([1]),
])  # fmt: skip
def test_wrong_arguments_are_refused(kind, wrong):
    with pytest.raises(TypeError):
        wrong(kind)


@BOTH
def test_a_field_is_replaced_by_name(kind):
    assert kind(1)._replace(a=2, b="y") == kind(2, "y")
    assert type(kind(1)._replace(a=2)) is kind
    with pytest.raises((TypeError, ValueError)):
        kind(1)._replace(d=1)


@BOTH
def test_it_is_copied_shown_and_matched(kind):
    value = kind(1, "y")
    for copied in (copy.copy(value), copy.deepcopy(value)):
        assert (type(copied), copied) == (kind, value)
    assert repr(value) == f"{kind.__name__}(a=1, b='y', c=())"
    assert value._asdict() == {"a": 1, "b": "y", "c": ()}
    match value:
        case kind(a, b="y"):
            assert a == 1
        case _:
            pytest.fail("it does not match")


@BOTH
def test_it_has_no_room_for_anything_else(kind):
    with pytest.raises(AttributeError):
        kind(1).d = 2
