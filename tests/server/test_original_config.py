# SPDX-License-Identifier: BSD-2-Clause
"""Files of the original's form start what they started there, and each of their keys is accounted for."""

import json
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eunomia.server import config, original_config
from eunomia.server.config import ConfigError, check, read
from eunomia.server.models import Filters
from eunomia.server.toml_text import dumps

WHOLE = {
    "run_selected": "server",
    "enabled_trackers": [
        {"name": "opensnoop", "export_handlers": [{"name": "csv", "args": ["x"]}], "args": ["-p", "41", "-u7", "--name=sh", "-x"]},
        {"name": "process", "export_handlers": [], "args": []},
        {"name": "files"},
        {"name": "memleak", "args": ["-a"]},
    ],
    "disable_other_configs": False,
    "tracing_selected": "container_id",
    "tracing_target_id": "0123456789ab",
    "target_pid": 42,
    "target_container_id": "aa11",
    "target_contaienr_id": 5500,
    "container_id": "bb22",
    "container_name": "shop-web",
    "exit_after": 90,
    "is_auto_exit": True,
    "enabled_export_types": ["stdout", "prometheus", "file", "unheard"],
    "fmt": "json_format",
    "enable_container_manager": True,
    "prometheus_listening_address": "127.0.0.1:9100",
    "enable_sec_rule_detect": True,
    "security_rules": [{"rule_name": "loads bpf", "type": "syscall", "trigger": "bpf", "err_msg": "a program loads bpf"}],
    "seccomp_data": [{"container_id": "cc33", "allow_syscall": ["read", "write"]}],
    "enable_seccomp_module": True,
    "server_host": "localhost",
    "server_port": 8600,
    "unheard_key": {"a": 1},
}  # fmt: skip

TABLES = """
[trackers]
Enable = ["process", "tcp", "syscall"]
container_id = 4711
process_id = 17
run_time = 20
fmt = "csv"
colour = true

[process]
min_duration = 20

[exporter]
Enable = ["prometheus", "stdout"]

[prometheus]
endpoint = "127.0.0.1"
port = 9101

[rules]
Enable = ["loads", "gone"]

[loads]
type = "syscall"
name = "loads bpf"
syscall = "bpf"
error_message = "a program loads bpf"

[seccomp]
allow = ["read", "write"]

[surplus]
a = 1
"""


@pytest.fixture
def write(tmp_path):
    def written(content, name: str = "original.json") -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        path.chmod(0o644)
        return str(path)

    return written


def leaves(value, path: str = "") -> list[str]:
    """Return the paths of all values that are no tables, and no lists of tables."""
    if isinstance(value, dict):
        return [p for key, inner in value.items() for p in leaves(inner, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [p for i, one in enumerate(value) for p in leaves(one, f"{path}[{i}]")]
    return [path]


def test_a_whole_file_in_json(write):
    found = read(write(WHOLE))
    containers = ["0123456789ab", "aa11", "5500", "bb22", "shop-web"]
    assert [(t.id, t.kind, t.duration) for t in found.config.trackers] == [
        ("opensnoop", "opensnoop", 90), ("process", "process", 90), ("opensnoop-2", "opensnoop", 90),
    ]  # fmt: skip
    assert [t.filters for t in found.config.trackers] == [
        Filters(pids=[41, 42], uids=[7], comms=["sh"], containers=containers),
        Filters(pids=[42], containers=containers),
        Filters(pids=[42], containers=containers),
    ]
    assert found.config.server == config.Server(listen=["127.0.0.1:8600"])


def test_a_whole_file_with_tables(write):
    found = read(write(TABLES, "original.toml"))
    assert [(t.id, t.kind, t.duration) for t in found.config.trackers] == [
        ("process", "process", 20),
        ("syscall", "syscall", 20),
    ]
    assert [t.filters for t in found.config.trackers] == [Filters(pids=[17], containers=["4711"])] * 2
    assert found.config.server == config.Server()


def test_the_same_file_as_toml_is_the_same(write):
    assert read(write(dumps(WHOLE), "original.toml")) == read(write(WHOLE))


@pytest.mark.parametrize("data", [WHOLE, tomllib.loads(TABLES)], ids=["json", "tables"])
def test_no_key_is_dropped_without_a_word(data):
    translation, misfits = original_config.translate(data)
    assert misfits == []
    said = "\n".join(map(str, translation.notes))
    assert [n.path for n in translation.notes if n.sentence == "it has no effect here"] in ([], [("disable_other_configs",)])
    # handlers, arguments, rules and the like are said as a whole
    paths = {p.removesuffix(".name").removesuffix(".args") if "[" in p else p for p in leaves(data)}
    wholes = ("security_rules[0]", "seccomp_data[0]", "unheard_key", "surplus")
    paths = {next((whole for whole in wholes if p.startswith(whole)), p) for p in paths}
    paths -= {p for p in paths if p.endswith(".export_handlers")}
    missing = {p for p in paths if f"{p}:" not in said and f"{p} " not in said and f"{p}[" not in said}
    assert not missing


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("run_selected", "run_selected: this file is for `eunomia server`"),
        ("enabled_trackers[0]", "enabled_trackers[0]: tracker opensnoop"),
        ("args[0]", "enabled_trackers[0].args[0]: -p 41: filters.pids"),
        ("args[2]", "enabled_trackers[0].args[2]: -u 7: filters.uids"),
        ("args[3]", "enabled_trackers[0].args[3]: --name sh: filters.comms; names are compared as a whole"),
        ("args[4]", "enabled_trackers[0].args[4]: '-x': it has no counterpart; left out"),
        ("export_handlers[0].args", "enabled_trackers[0].export_handlers[0].args: the original does not use them either; left out"),
        ("'files'", "enabled_trackers[2]: 'files': opensnoop takes its place: it shows which files are opened, not how much is "
         "read and written"),
        ("memleak", "enabled_trackers[3]: 'memleak': there is no such tracker yet; left out"),
        ("target_contaienr_id: a", "target_contaienr_id: a number; 5500 is taken as the beginning of a container's id"),
        ("exit_after", "exit_after: duration of each tracker: 90 s; the server goes on"),
        ("types[1]", "enabled_export_types[1]: 'prometheus': a later version has metrics of trackers: [metrics] listen"),
        ("types[3]", "enabled_export_types[3]: 'unheard': the original has no such handler; left out"),
        ("prometheus_listening", "prometheus_listening_address: '127.0.0.1:9100': metrics of trackers come with a later version, "
         "as [metrics] listen; left out"),
        ("security_rules", "security_rules[0]: 'loads bpf': rules that detect come with a later version, as [[rules]]; left out"),
        ("seccomp_data", "seccomp_data[0]: container 'cc33', 2 calls: restrictions of system calls come with a later version, as "
         "[[seccomp]]; left out"),
        ("server_port", "server_port: server.listen; callers need a token: `eunomia token create`"),
        ("unheard_key", "unheard_key: the original has no such key; left out"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_key(write, word, sentence):
    assert sentence in [note for note in read(write(WHOLE)).notes if word in note]


def test_what_is_said_of_the_keys_of_tables(write):
    notes = read(write(TABLES, "o.toml")).notes
    assert "trackers.Enable[1]: 'tcp': there is no such tracker yet; left out" in notes
    assert "trackers.container_id: a number; 4711 is taken as the beginning of a container's id" in notes
    assert "trackers.colour: the original has no such key; left out" in notes
    assert "process.min_duration: it has no counterpart; left out" in notes
    assert "rules.Enable[0]: 'loads': rules that detect come with a later version, as [[rules]]; left out" in notes
    assert "loads.syscall: of the rule 'loads'; left out with it" in notes
    assert "surplus: the original has no such key; left out" in notes


@pytest.mark.parametrize(("content", "name"), [(WHOLE, "o.json"), (TABLES, "o.toml")])
def test_the_printed_translation_can_be_saved_and_means_the_same(write, content, name):
    found = read(write(content, name))
    saved = read(write(found.translated, "saved.toml"))
    assert (saved.config, saved.translated, saved.notes) == (found.config, "", ())
    for note in found.notes:
        assert f"# {note}\n" in found.translated


def test_what_stands_in_names_cannot_leave_its_comment(write):
    evil = "x\n[server]\npin = true\n#\x1b[2J\x7f\u2028"
    found = read(write({"enabled_trackers": [{"name": "process"}, {"name": evil}], "container_name": evil, evil: 1}))
    assert found.config.trackers[0].filters.containers == [evil]
    assert read(write(found.translated, "saved.toml")).config == found.config
    assert not found.config.server.pin
    assert "\x1b" not in found.translated


def test_without_trackers_those_start_that_the_original_starts(write):
    found = read(write({"run_selected": "server"}))
    assert [t.kind for t in found.config.trackers] == ["process", "opensnoop"]
    assert "enabled_trackers: not given: the original starts process, files, tcpconnect" in found.notes


def test_a_process_can_be_selected(write):
    found = read(
        write({"enabled_trackers": [{"name": "process"}], "tracing_selected": "pid", "tracing_target_id": "42"})
    )
    assert found.config.trackers[0].filters == Filters(pids=[42])


def test_exit_after_without_auto_exit_does_not_hold(write):
    found = read(write({"enabled_trackers": [{"name": "process"}], "exit_after": 5, "is_auto_exit": False}))
    assert found.config.trackers[0].duration == 0
    assert "exit_after: is_auto_exit is false; left out" in found.notes


def test_an_address_that_others_reach_is_left_out(write):
    found = read(write({"enabled_trackers": [{"name": "process"}], "server_host": "192.0.2.1", "server_port": 80}))
    assert found.config.server.listen == []
    assert (
        "server_port: 192.0.2.1:80 can be reached from other machines, which needs [server.tls]; left out"
        in found.notes
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"enabled_trackers": ["process"]}, "enabled_trackers[0]: 'process' is not a table"),
        ({"enabled_trackers": [{"args": []}]}, "enabled_trackers[0].name: it is missing"),
        ({"enabled_trackers": [{"name": "process", "args": ["-p", "x"]}]},
         "enabled_trackers[0].args[0]: -p needs a whole number, not 'x'"),
        ({"enabled_trackers": [{"name": "process", "args": ["-p"]}]},
         "enabled_trackers[0].args[0]: -p needs a whole number, not ''"),
        ({"exit_after": -1}, "exit_after: -1 is not a whole number of at least 0"),
        ({"exit_after": "5"}, "exit_after: '5' is not a whole number"),
        ({"tracing_selected": "pid", "tracing_target_id": ""}, "tracing_target_id: '' is not the id of a process"),
        ({"tracing_selected": "pid", "tracing_target_id": "sh"}, "tracing_target_id: 'sh' is not the id of a process"),
        ({"tracing_selected": "container_id"}, "tracing_target_id: it is empty, and tracing_selected is container_id"),
        ({"tracing_selected": "cgroup"}, "tracing_selected: 'cgroup' is none of all, pid, container_id"),
        ({"security_rules": {}}, "security_rules: a table is not a list"),
        ({"seccomp_data": [{"container_id": []}]},
         "seccomp_data[0].container_id: an empty list is not a whole number or text"),
        ({"server_port": 0}, "server_port: 0 is not a whole number of at least 1"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_at_its_path(write, data, said):
    path = write(data)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert error.value.problems == [f"{path}: {said}"]
    assert check(path) == error.value.problems


def test_in_toml_a_wrong_value_is_refused_at_its_line(write):
    path = write('[trackers]\nEnable = ["process"]\nprocess_id = "sh"\n', "o.toml")
    assert check(path) == [f"{path}:3: trackers.process_id: 'sh' is not a whole number"]


@pytest.mark.parametrize(
    "ours",
    [{}, {"server": {}}, {"trackers": []}, {"trackers": [], "rules": {}}, {"server": {}, "enabled_trackers": []}],
)
def test_our_own_form_is_not_taken_for_the_originals(ours):
    assert not original_config.is_original(ours)


words = st.text("a1-\n\x7f\\\"'=[]#\u2028", max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 40) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
keys = ["name", "args", "export_handlers", "Enable", "allow", "port", "rule_name", "allow_syscall"]
tables = st.dictionaries(st.sampled_from(keys), values, max_size=3)
some = st.dictionaries(
    st.sampled_from([*original_config._KEYS, *original_config._TABLES, "trackers", "rule1", ""]),
    values | tables | st.lists(tables, max_size=2) | st.just([{"name": "process"}]) | st.just({"Enable": ["process", "rule1"]}),
    max_size=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
@given(some)
def test_whatever_the_values_are_a_file_is_translated_whole_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("original")
    path, saved = folder / "original.json", folder / "saved.toml"
    path.write_text(json.dumps(data))
    path.chmod(0o644)
    try:
        found = read(str(path))
    except ConfigError as error:
        assert error.problems
        return
    if original_config.is_original(data):
        for key in data:
            assert any(note.startswith(key) or f"{key}" in note for note in found.notes), f"nothing is said of {key}"
        saved.write_text(found.translated)
        saved.chmod(0o644)
        assert read(str(saved)).config == found.config
