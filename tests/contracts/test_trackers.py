# SPDX-License-Identifier: BSD-2-Clause
"""Every tracker's folder is complete, its streams are described, and it loads in every way it says."""

import os
from contextlib import closing

import pytest

from eunomia import tracker
from eunomia.containers.selectors import Selectors
from eunomia.engine.kernel_filter import KernelFilter
from eunomia.filters import Filters, has_filters
from eunomia.kernel.errors import Unsupported
from eunomia.source import open_source
from tests import needs
from tests.contracts import PACKAGE
from tests.harness import only

NAMES = sorted(p.name for p in (PACKAGE / "trackers").iterdir() if p.is_dir() and p.name != "__pycache__")
HEADINGS = ("## Output", "## Fields", "## Hooks", "## Cost", "## Blind spots")

EVERY_FILTER = (
    Filters(),
    Filters(traces_itself=True),
    Filters(pids=(1, 2), uids=(0,), comms=("a",)),
    Filters(selectors=Selectors(("web",)), pids=(1,)),
    Filters(host_only=True),
    Filters(containers_only=True, comms=("sh",)),
)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_there_are_trackers():
    assert set(NAMES) >= {"process", "opensnoop", "syscall"}
    assert tracker.built_in() == NAMES


def test_the_folder_is_complete(name: str):
    files = {p.name for p in (PACKAGE / "trackers" / name).iterdir()}
    wanted = {"__init__.py", "tracker.py", "README.md", f"{name}.bpf.c", f"test_{name}.py"}
    missing = ", ".join(sorted(wanted - files))
    assert not missing, f"src/eunomia/trackers/{name} lacks {missing}: a tracker is one folder with all of these"


def test_the_readme_answers_what_users_ask(name: str):
    text = (PACKAGE / "trackers" / name / "README.md").read_text()
    found = tracker.find(name)
    assert found is not None
    where = f"src/eunomia/trackers/{name}/README.md"
    assert f"# {name}\n" in text, f"{where}: begin with the heading `# {name}`"
    assert found.tracker.title in text, f"{where}: say the question as tracker.py has it: {found.tracker.title}"
    missing = [heading for heading in HEADINGS if f"\n{heading}\n" not in text]
    assert not missing, f"{where} lacks the headings {', '.join(missing)}"
    unnamed = [variant.name for variant in found.tracker.variants if f"`{variant.name}`" not in text]
    assert not unnamed, f"{where}, Hooks: name the variants {', '.join(unnamed)} of tracker.py"


def test_every_stream_and_field_says_what_it_is(name: str):
    with closing(open_source(name).spec) as spec:
        assert spec.streams
        for stream, known in spec.streams.items():
            struct = known.schema
            assert struct.doc, f'{name}/{stream}: end its struct with `}} doc("what a row is");`'
            bare = [field.name for field in struct.fields.values() if not field.doc]
            assert not bare, f'{name}/{stream}: add doc("...") in {name}.bpf.c to {", ".join(bare)}'


def test_default_columns_exist(name: str):
    found = tracker.find(name)
    assert found is not None
    with closing(open_source(name).spec) as spec:
        strange = set(found.tracker.columns) - set(spec.streams)
        assert not strange, f"{name}/tracker.py has columns of streams that the probe has not: {strange}"
        for stream, columns in found.tracker.columns.items():
            wrong = set(columns) - set(spec.streams[stream].schema.columns)
            assert not wrong, f"{name}/tracker.py, columns of {stream}: the struct has no {', '.join(sorted(wrong))}"


def test_variants_name_programs_of_the_probe(name: str):
    found = tracker.find(name)
    assert found is not None
    with closing(open_source(name).spec) as spec:
        programs = {program.name for program in spec.programs}
        used = {p for variant in found.tracker.variants for p in variant.programs} | set(found.tracker.always)
        assert used <= programs, f"{name}/tracker.py names programs that the probe has not: {used - programs}"
        idle = programs - used
        assert not idle, f"{name}: no variant in tracker.py uses {', '.join(sorted(idle))}: name or remove them"


def _name(filters: Filters) -> str:
    return "+".join(name for name, value in filters._asdict().items() if value) or "none"


@pytest.mark.parametrize("filters", EVERY_FILTER, ids=_name)
def test_it_loads_by_each_variant_under_each_filter(name: str, filters: Filters):
    """Its sets are filled, and its word is set, before it is attached."""
    needs.root()
    found = tracker.find(name)
    assert found is not None
    for variant in found.tracker.variants:
        source = only(open_source(name), variant.name)
        kernel_filter = KernelFilter()
        kernel_filter.want([(filters, filters.selection())])
        own = has_filters(source.spec.maps)  # else rows are chosen in user space
        kernel_side = {"set_": kernel_filter.constants(), "ready": kernel_filter.fill} if own else {}
        try:
            with source.load(**kernel_side) as live:
                assert live.readers
        except Unsupported as error:
            pytest.skip(f"{name}, {variant.name}, on {os.uname().release}: {error}")
        finally:
            source.spec.close()
