# SPDX-License-Identifier: BSD-2-Clause
"""Settings: an object's global variables and constants, which users set before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eunomia.batch import Batch
from eunomia.kernel import encode as encoding
from eunomia.kernel.btf import Btf
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.schema import schema, spell
from eunomia.kernel.types import Array, Int, Member, Opaque, Pointer, Struct, Type, sizeof, strip
from eunomia.typing import NamedTuple

_RESERVED = "eunomia_"  # the shared filters' own constants
_SECTIONS = (".rodata", ".data", ".bss")
_OURS = ".data.eunomia"
_MEMBERS = 64  # of one variable that are listed; paths work for the others too
_SHOWN = 4096  # bytes of the largest variable of which the initial value is shown
_STEP = r"\.([A-Za-z_]\w*)|\[([^\[\]]*)\]"


class Setting(NamedTuple):
    """A variable, or a member of one, that can be set: its location, its C type and its default.

    ``offset`` counts bytes from the start of its section; ``bits`` and ``shift`` are those of a bit field.
    """

    name: str
    section: str
    offset: int
    type: Type
    default: object
    doc: str
    reserved: bool
    constant: bool = True
    shift: int = 0
    bits: int = 0

    @property
    def ctype(self) -> str:
        """Its type as C spells it."""
        return f"{spell(self.type)} : {self.bits}" if self.bits else spell(self.type)

    @property
    def member(self) -> Member:
        """The setting as a member of its section."""
        return Member(self.name, self.type, 8 * self.offset + self.shift, self.bits)


def _holds_variables(section: str) -> bool:
    return section in _SECTIONS or section.startswith(tuple(f"{name}." for name in _SECTIONS))


def find(btf: Btf, images: Mapping[str, bytes]) -> dict[str, Setting]:
    """Return an object's settings by name; ``images`` has each section's initial bytes."""
    found = {}
    for section, name, offset, size, id_ in btf.variables():
        image = images.get(section)
        if image is None or not _holds_variables(section) or section == _OURS or not name.isidentifier():
            continue
        type_ = btf.variable_type(id_)
        if isinstance(strip(type_), Pointer | Opaque) or not size:
            continue
        doc = next((t.removeprefix("doc:") for t in btf.tags(id_) if t.startswith("doc:")), "")
        default = decode(type_, image[offset : offset + size])
        constant = section.startswith(".rodata")
        found[name] = Setting(name, section, offset, type_, default, doc, name.startswith(_RESERVED), constant)
    return found


def listed(settings: Mapping[str, Setting], images: Mapping[str, bytes]) -> list[Setting]:
    """Return what users can set, structs as their members."""
    found = []
    for setting in settings.values():
        if setting.reserved:
            continue
        parts = list(_members(setting, images.get(setting.section, b"")))
        found += parts if 0 < len(parts) <= _MEMBERS else [setting]
    return found


def _members(setting: Setting, image: bytes) -> Iterator[Setting]:
    bare = strip(setting.type)
    if not isinstance(bare, Struct):
        yield setting
        return
    for member in bare.members:
        if isinstance(strip(member.type), Pointer | Opaque):
            continue
        yield from _members(_of_member(setting, member, image), image)


def _of_member(setting: Setting, member: Member, image: bytes = b"") -> Setting:
    at = 8 * setting.offset + member.bit_offset
    raw = image[at // 8 : at // 8 + sizeof(member.type)]
    return setting._replace(
        name=f"{setting.name}.{member.name}" if member.name else setting.name,
        offset=at // 8,
        type=member.type,
        default=_bit_field(image, at, member.bits) if member.bits else decode(member.type, raw),
        doc=next((t.removeprefix("doc:") for t in member.tags if t.startswith("doc:")), ""),
        shift=at % 8 if member.bits else 0,
        bits=member.bits,
    )


def _bit_field(image: bytes, at: int, bits: int) -> object:
    span = int.from_bytes(image[at // 8 : (at + bits + 7) // 8], "little")
    return span >> at % 8 & (1 << bits) - 1


def decode(type_: Type, raw: bytes) -> object:
    """Return the value of a type's bytes; None if it is too large to be shown, or not a plain value."""
    bare = strip(type_)
    if isinstance(bare, Array) and _is_text(bare, raw):
        return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    if isinstance(bare, Struct | Pointer | Opaque) or not raw or len(raw) > _SHOWN:
        return None
    row = schema(type_)
    if len(raw) != row.size or "value" not in row.fields:
        return raw.hex()
    value: object = Batch(row, raw).values("value")[0]
    return value


def _is_text(array: Array, raw: bytes) -> bool:
    element = strip(array.element)
    if not isinstance(element, Int) or element.size != 1:
        return False
    text = raw.rstrip(b"\0")
    return element.char or (bool(text) and text.isascii() and text.decode("ascii").isprintable())


def locate(settings: Mapping[str, Setting], path: str) -> Setting | None:
    """Return the setting of a path such as ``cfg.ports[2]``, None if there is no such variable.

    Raises :class:`BadSetting` if the variable has no such member.
    """
    if (whole := settings.get(path)) is not None:
        return whole
    import re

    root = re.match(r"[A-Za-z_]\w*", path)
    setting = settings.get(root[0]) if root else None
    if root is None or setting is None or (setting.reserved and root.end() != len(path)):
        return None
    return setting if root.end() == len(path) else walk(setting, path[root.end() :])


def walk(setting: Setting, rest: str) -> Setting:
    """Return the part of a setting that the rest of a path names."""
    import re

    at, steps = 0, re.compile(_STEP)
    while at < len(rest):
        step = steps.match(rest, at)
        if step is None:
            raise BadSetting(f"setting {setting.name}{rest}: write members as .NAME and [INDEX]")
        at = step.end()
        setting = _field(setting, step[1]) if step[1] else _element(setting, step[2])
    return setting


def _field(setting: Setting, name: str) -> Setting:
    bare = strip(setting.type)
    if not isinstance(bare, Struct):
        raise BadSetting(f"setting {setting.name} ({setting.ctype}) has no member '{name}': it is not a struct")
    chain = _chain(bare, name)
    if chain is None:
        raise BadSetting(
            f"setting {setting.name} ({setting.ctype}) has no member '{name}': it has {', '.join(_names(bare))}"
        )
    for member in chain:
        setting = _of_member(setting, member)
    return setting


def _chain(type_: Struct, name: str) -> list[Member] | None:
    """Return the member of a name, after the unnamed members that contain it."""
    for member in type_.members:
        if member.name == name:
            return [member]
        inner = strip(member.type)
        if not member.name and isinstance(inner, Struct) and (rest := _chain(inner, name)) is not None:
            return [member, *rest]
    return None


def _names(type_: Struct) -> Iterator[str]:
    for member in type_.members:
        inner = strip(member.type)
        if member.name:
            yield member.name
        elif isinstance(inner, Struct):
            yield from _names(inner)


def _element(setting: Setting, word: str) -> Setting:
    bare = strip(setting.type)
    if not isinstance(bare, Array):
        raise BadSetting(f"setting {setting.name} ({setting.ctype}) has no elements: it is not an array")
    try:
        index = encoding.number(word)
    except ValueError:
        index = -1
    if not 0 <= index < bare.length:
        shown = encoding.shown(word)
        raise BadSetting(f"setting {setting.name} ({setting.ctype}): {shown} is not between 0 and {bare.length - 1}")
    return setting._replace(
        name=f"{setting.name}[{index}]", offset=setting.offset + index * sizeof(bare.element), type=bare.element
    )


def write(setting: Setting, value: object, memory: bytearray) -> None:
    """Write a value, given as text or as a Python number, bool or list, into its section's bytes.

    Raises :class:`BadSetting` if it does not fit the setting's type.
    """
    end = (8 * setting.offset + setting.shift + (setting.bits or 8 * sizeof(setting.type)) + 7) // 8
    if end > len(memory):
        raise BadSetting(f"setting {setting.name}: the object has no room for it")
    try:
        encoding.put(memory, setting.member, value)
    except ValueError as error:
        raise BadSetting(f"setting {setting.name} ({setting.ctype}): {error}") from None


def unknown(owner: str, path: str, settings: Mapping[str, Setting], maps: Mapping[str, str]) -> BadSetting:
    """Return the error for a name that an object does not have; ``maps`` are those whose entries can be set."""
    known = [f"{s.name} ({s.ctype})" for s in listed(settings, {})]
    known += [f"{name}[KEY] ({types})" for name, types in maps.items()]
    return BadSetting(
        f"{owner} has no setting {encoding.shown(path)}: " + (f"it has {', '.join(known)}" if known else "it has none")
    )
