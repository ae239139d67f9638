# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia info``: describes a tracker or an object. Nothing is loaded; no privileges are needed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from eunomia.cli import values
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.page import Page
    from eunomia.cli.parser import Subparsers
    from eunomia.kernel.foreign.choice import Plan
    from eunomia.kernel.spec import Coalescing, Map, Spec, StreamSpec
    from eunomia.source import Source
    from eunomia.stream_schema import Field, Scale, Schema

EXAMPLES = """\
examples:
  eunomia info process                         fields, types, hooks, settings
  eunomia info ./my.bpf.o                      the same for any object built with libbpf
  eunomia info ./my.bpf.o --event rb=event     ... with the struct in the buffer rb
  eunomia info opensnoop -o json | jq '.streams[].json_schema'
"""

_NAMES = 12  # of an enum's values
_OWN = ("eunomia_", "ledger_", "next_", "equal_")  # maps that all trackers share
_PLACES = 8  # of the longest array of which the values are shown
_OPTIONS = ("pid", "comm", "uid", "container", "host-only", "containers-only")


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "info",
        help="explain a tracker or a BPF object: fields, hooks, settings",
        description="Describe a tracker or an object, without loading it.",
        epilog=EXAMPLES,
    )
    parser.add_argument("what", metavar="TRACKER|OBJECT", help="a tracker's name, or an object's path")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    parser.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="MAP=[FIELD:VALUE=]STRUCT",
        help="the struct of a buffer's records, of all or of those in which FIELD has this VALUE",
    )
    values.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the description; return 0."""
    from eunomia.cli.words import events
    from eunomia.source import open_source

    source = open_source(args.what, events(args.event) or None)
    try:
        values.choose(args, [source])
        if args.format == "json":
            from eunomia.cli.page import write_json

            write_json(_facts(source))
        else:
            _print(source)
    finally:
        source.spec.close()
    return 0


def schemas(stream: StreamSpec) -> list[Schema]:
    """Return a stream's schemas: one, or several for records of different lengths or tags."""
    return stream.shapes or [stream.schema]


def filters_of(spec: Spec, stream: StreamSpec) -> list[str]:
    """Return the options of ``eunomia run`` that filter a stream's rows."""
    from eunomia.filters import Filters, container_mask, has_filters, process_mask
    from eunomia.kernel.errors import BadSetting

    if has_filters(spec.maps):
        return [f"--{name}" for name in _OPTIONS]
    found = []
    for name, wish in (
        ("pid", Filters(pids=(1,))), ("comm", Filters(comms=("a",))), ("uid", Filters(uids=(0,))),
    ):  # fmt: skip
        try:
            process_mask(wish, stream.schema, stream.name)
        except BadSetting:
            continue
        found.append(f"--{name}")
    of_containers = Filters(host_only=True).selection()
    assert of_containers is not None
    try:
        container_mask(of_containers, stream.schema, stream.name)
    except BadSetting:
        return found
    return found + [f"--{name}" for name in _OPTIONS[3:]]


def _variants(source: Source, program: str) -> list[str]:
    """Return the variants that a program belongs to; none for an object without a tracker."""
    if source.found is None:
        return []
    tracker = source.found.tracker
    if program in tracker.always:
        return [variant.name for variant in tracker.variants]
    return [variant.name for variant in tracker.variants if program in variant.programs]


def _plan(spec: Spec) -> Plan:
    """Return which programs of an object would run, as far as it shows without the kernel."""
    from eunomia.kernel.foreign import choice

    return choice.plan(spec, choice.Wish())


def _runs(chosen: Plan | None, program: str) -> dict[str, object]:
    if chosen is None:
        return {}
    error = chosen.left_out.get(program)
    if any(p.name == program for p in chosen.called):
        return {"runs": True, "why": "called by others (tail calls)"}
    return {"runs": error is None, "why": str(error or "")}


def _other_maps(spec: Spec) -> list[Map]:
    shown = {stream.map.name for stream in (spec.streams | spec.raw).values()}
    swapped = {f"{s.name}_{half}" for s in spec.streams.values() if s.kind == "swapped" for half in "ab"}
    return [
        m
        for m in spec.maps.values()
        if not m.internal and m.name not in shown | swapped and not (spec.own and m.name.startswith(_OWN))
    ]


def _facts(source: Source) -> dict[str, Any]:
    from eunomia.cli.json_schema import row_schema
    from eunomia.kernel.schema import spell
    from eunomia.kernel.settings import listed

    spec, found = source.spec, source.found
    chosen = None if found else _plan(spec)
    return {
        "name": source.name,
        "question": found.tracker.title if found else "",
        "readme": _readme(source),
        "streams": [
            {
                "name": stream.name,
                "kind": stream.kind,
                "doc": stream.schema.doc,
                "type_from": stream.how,
                "cpus": dict(stream.cpus.rules) if stream.cpus else {},
                "hint": stream.hint,
                "coalesces": _coalescing(stream),
                "filters": filters_of(spec, stream),
                "default_columns": list(source.columns(stream.name)),
                "schemas": [_schema_facts(schema) for schema in schemas(stream)],
                "json_schema": row_schema(schemas(stream), source.name, stream.name, source.whole),
            }
            for stream in spec.streams.values()
        ],
        "programs": [
            {"name": p.name, "section": p.section, "variants": _variants(source, p.name)} | _runs(chosen, p.name)
            for p in spec.programs
        ],
        "settings": [
            {"name": s.name, "type": s.ctype, "default": s.default, "doc": s.doc, "constant": s.constant}
            for s in listed(spec.settings, spec.images)
        ],
        "entries": [
            {"map": name, "key": table.key_type, "value": spell(table.value)} for name, table in spec.tables.items()
        ],
        "maps": [
            {
                "name": m.name,
                "type": m.type_name,
                "key_size": m.key_size,
                "value_size": m.value_size,
                "max_entries": m.max_entries,
                "chosen": m.chosen,
            }
            for m in _other_maps(spec)
        ],
    }


def _shown_as(field: Field) -> str:
    from eunomia.columns.meanings import MEANINGS

    if field.meaning == "tail":
        part = field.parts[0]
        meant = MEANINGS[part.meaning]
        kind = "list of objects" if part.meaning == "struct" else meant.description if meant.whole else "list"
        return f"{kind}, after the struct"
    if field.scale is not None:
        return _histogram(field.scale)
    if not field.tag:
        return MEANINGS[field.meaning].description
    kinds = dict.fromkeys(MEANINGS[p.meaning].description or "number" for p in field.parts if p.meaning != "absent")
    return f"by {field.tag}: {' or '.join(kinds)}"


def _histogram(scale: Scale) -> str:
    kind = "powers of two" if scale.kind == "log2" else f"steps of {scale.step}"
    unit = f" {scale.unit}" if scale.unit else ""
    return f"histogram by {kind}{unit}: {scale.why}"


def _schema_facts(schema: Schema) -> dict[str, Any]:
    return {
        "struct": schema.name,
        "size": schema.fixed,
        "fields": [
            {
                "name": field.name,
                "type": field.ctype,
                "offset": field.offset,
                "size": field.size,
                "bits": field.bits[1] if field.bits else None,
                "meaning": field.meaning,
                "shown_as": _shown_as(field),
                "doc": field.doc,
                "hidden": field.hidden,
                "values": {name: value for value, name in (field.names or {}).items()},
            }
            for field in schema.fields.values()
        ],
    }


def _readme(source: Source) -> str:
    path = os.path.join(source.found.folder, "README.md") if source.found else ""
    return path if os.path.exists(path) else ""


# For people


def _print(source: Source) -> None:
    from eunomia.cli.page import BOLD, Page

    page, spec, found = Page(), source.spec, source.found
    page.line(f"{source.name}: {found.tracker.title}" if found else source.name, style=BOLD)
    if readme := _readme(source):
        page.line(f"more in {readme}")
    for stream in spec.streams.values():
        _print_stream(page, source, stream)
    if spec.streams:
        page.heading("every row also has")
        page.line(
            "time, tracker, stream; its container and pod: container.id, .name, .image, .runtime, "
            "pod.name, .namespace, .uid, and identity: host, resolved, pending or unknown",
            2,
        )
    else:
        page.line("It has no ring buffer, perf buffer or table to show.")
    page.heading("programs")
    several = found is not None and len(found.tracker.variants) > 1
    rows = [(p.name, p.section, ", ".join(_variants(source, p.name))) for p in spec.programs]
    headers = ("PROGRAM", "HOOK", "IN VARIANT")
    page.table(headers, rows, 2) if several else page.table(headers[:2], [r[:2] for r in rows], 2)
    if several:
        page.line("The first variant that this kernel supports is used.", 2)
    if found is None:
        _print_choice(page, spec)
    _print_settings(page, spec)
    if maps := _other_maps(spec):
        page.heading("maps that are not shown")
        page.table(
            ("MAP", "TYPE", "KEY", "VALUE", "ENTRIES"),
            [(m.name, m.type_name, f"{m.key_size} B", f"{m.value_size} B", str(m.max_entries)) for m in maps],
            2,
        )
    if spec.streams:
        _print_sample(page, source)


def _print_choice(page: Page, spec: Spec) -> None:
    from eunomia.kernel.foreign.choice import sentences

    chosen = _plan(spec)
    for sentence in sentences(spec, chosen):
        page.line(sentence, 2)
    if not chosen.run:
        page.line("None would run without options.", 2)
    elif chosen.left_out:
        page.line("--program NAME runs only that program, --skip-program NAME all others.", 2)


def _print_settings(page: Page, spec: Spec) -> None:
    from eunomia.kernel.settings import listed

    settings = listed(spec.settings, spec.images)
    if settings:
        page.heading("settings, set by --set NAME=VALUE")
        rows = [(s.name, s.ctype, _default(s.default), s.doc or _variable(s.constant)) for s in settings]
        page.table(("SETTING", "TYPE", "DEFAULT", "MEANING"), rows, 2)
    if spec.tables:
        page.heading("entries of maps, set by --set MAP[KEY]=VALUE or --set MAP[KEY].MEMBER=VALUE")
        page.table(("MAP", "KEY TO VALUE"), [(f"{name}[KEY]", table.types) for name, table in spec.tables.items()], 2)
    sized = [(m.name, m.type_name, m.chosen) for m in spec.maps.values() if m.chosen]
    if sized:
        page.heading("maps without a size, set by --map-size MAP=ENTRIES")
        page.table(("MAP", "TYPE", "DEFAULT"), sized, 2)


def _variable(constant: bool) -> str:
    return "" if constant else "a variable: programs may change it"


def _print_stream(page: Page, source: Source, stream: StreamSpec) -> None:
    from eunomia.cli.page import YELLOW

    kind = {
        "ring": "events, by ring buffer",
        "perf": "events, by perf buffer",
        "table": "a table, shown at each interval",
        "swapped": "a table, emptied at each interval",
        "globals": "one row, shown at each interval",
        "lines": "text of an iterator, all of it at each interval",
        "records": "records of an iterator, all of them at each interval",
        "printk": "events, by bpf_printk()",
        "derived": "events, made from the kernel's events and the runtimes' files",
    }[stream.kind]
    page.heading(f"stream {stream.name}: {kind}")
    if stream.schema.doc:
        page.line(stream.schema.doc, 2)
    for words, schema in _kinds_of_records(stream):
        if words:
            page.line(f"records {words}: {schema.name}", 2)
        _print_fields(page, schema, rules_of(stream))
    if stream.how:
        page.line(f"type from: {stream.how}", 2)
    if stream.hint:
        page.line(stream.hint, 2, YELLOW)
    for line in _owners(stream):
        page.line(f"container: {line}", 2)
    if stream.coalescing is not None:
        page.line(f"--coalesce TIME counts what has the same {stream.coalescing.key}; rows then also have:", 2)
        _print_fields(page, _only_counted(stream.coalescing), {})
    chosen = filters_of(source.spec, stream)
    page.line(f"filters: {' '.join(chosen)}" if chosen else "filters: none", 2)


def rules_of(stream: StreamSpec) -> dict[str, str]:
    """Return descriptions of how the CPUs' values of each column are merged; empty if they are not."""
    if stream.cpus is None:
        return {}
    from eunomia.kernel.percpu import SAID

    return {name: SAID[rule] for name, rule in stream.cpus.rules.items()}


def _kinds_of_records(stream: StreamSpec) -> list[tuple[str, Schema]]:
    """Return each schema, and how its records are recognized; the last is for all others."""
    found = [(f"of {size} bytes", schema) for size, schema in (stream.by_size or {}).items()]
    for size, tag in (stream.tags or {}).items():
        length = f"of {size} bytes " if size else ""
        numbers: dict[int, list[int]] = {}
        of = {id(schema): schema for schema in tag.schemas.values()}
        for number, schema in tag.schemas.items():
            numbers.setdefault(id(schema), []).append(number)
        for key, of_one in numbers.items():
            found.append((f"{length}with {tag.field} {' or '.join(map(str, of_one))}", of[key]))
    if not found:
        return [("", stream.schema)]
    unknown = any(field.meaning == "blob" for field in stream.schema.fields.values())
    return found if unknown else [*found, ("of any other kind", stream.schema)]


def _only_counted(coalescing: Coalescing) -> Schema:
    """Return the columns that rows have beside the others where equal events are counted."""
    from eunomia.stream_schema import Schema

    shape = coalescing.schema
    return Schema(shape.name, shape.size, [f for f in shape.fields.values() if f.coalesced])


def _coalescing(stream: StreamSpec) -> dict[str, object] | None:
    if stream.coalescing is None:
        return None
    only = _only_counted(stream.coalescing)
    return {"equal": stream.coalescing.key, "fields": _schema_facts(only)["fields"]}


def _owners(stream: StreamSpec) -> list[str]:
    """Return how rows' containers are found: one line if it is the same for all records, else one for each struct."""
    found = {schema.name: _container_from(schema) for _, schema in _kinds_of_records(stream)}
    if len(set(found.values())) == 1:
        return list(found.values())[:1]
    return [f"{name}: {how}" for name, how in found.items()]


def _container_from(schema: Schema) -> str:
    """Return how rows' containers are found, or why they cannot be."""
    from eunomia.filters import cgroup_field
    from eunomia.process_field import candidates

    if cgroup := cgroup_field(schema):
        return f"by {cgroup}"
    found = candidates(schema)
    if len(found) > 1:
        return f"unknown: {' and '.join(one.field for one in found)} may each be the process"
    if not found:
        return "unknown: there is no cgroup id and no process id"
    (one,) = found
    upper = ", its upper half" if one.pair else ""
    return f"by {one.field}{upper}{', which may be a thread' if one.threads else ''}"


def _print_fields(page: Page, schema: Schema, rules: Mapping[str, str]) -> None:
    rows = []
    for field in schema.fields.values():
        ctype = f"{field.ctype} : {field.bits[1]}" if field.bits else field.ctype
        doc = f"{field.doc} (hidden in tables)".lstrip() if field.hidden else field.doc
        if not doc and field.names:
            doc = _some(list(field.names.values()))
        shown = ", ".join(filter(None, (_shown_as(field), rules.get(field.name))))
        rows.append((field.name, ctype, shown, doc))
    page.table(("FIELD", "TYPE", "SHOWN AS", "MEANING"), rows, 2)


def _some(names: list[str]) -> str:
    """Return some of the names; ``-o json`` has all of them."""
    more = f", ... ({len(names)} in all)" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and len(value) > _PLACES:
        first = ", ".join(map(str, value[:_PLACES]))
        return f"[{value[0]}] * {len(value)}" if len(set(map(str, value))) == 1 else f"[{first}, ...]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _print_sample(page: Page, source: Source) -> None:
    recorded = _recorded(_readme(source))
    if recorded:
        page.heading("sample")
        page.verbatim(recorded, 2)
        return
    from eunomia.cli.json_schema import example
    from eunomia.cli.page import write_json

    page.heading("sample, as JSON; the values are made up")
    for stream in source.spec.streams.values():
        for schema in schemas(stream):
            write_json(example(schema, source.name, stream.name))


def _recorded(readme: str) -> str:
    """Return the first block of code below a README's heading for a sample or output."""
    if not readme:
        return ""
    import re

    with open(readme, encoding="utf-8", errors="backslashreplace") as file:
        text = file.read()
    heading, prose, block = r"^#+[^\n]*\b(?:sample|output)\b[^\n]*\n", r"(?:(?!#|```)[^\n]*\n)*", r"```\w*\n(.*?)^```"
    found = re.search(heading + prose + block, text, re.IGNORECASE | re.MULTILINE | re.DOTALL)
    return found[1] if found else ""
