# SPDX-License-Identifier: BSD-2-Clause
"""Whatever is wrong, a user reads one line that says so, and the exit code says whose fault it is."""

import os
import subprocess
import sys

import pytest

from tests import needs
from tests.cli.conftest import EUNOMIA, GOOD, REFUSED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "there is no command 'lst': did you mean list?"),
        (["process"], "to run it, write eunomia run process"),
        (["./a.bpf.o"], "to run it, write eunomia run ./a.bpf.o"),
        (["info"], "the following arguments are required: TRACKER|OBJECT (see eunomia info --help)"),
        (["list", "--nonsense"], "unrecognized arguments: --nonsense (see eunomia list --help)"),
        (["list", "-o", "xml"], "invalid choice: 'xml'"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
        (["info", "opensnop"], "there is no tracker 'opensnop': did you mean opensnoop?"),
        (["info", "zzz"], "there is no tracker 'zzz': there are container, opensnoop, process, syscall"),
        (["info", "process", "--event", "exec"], "--event: 'exec' is not of the form MAP=STRUCT"),
        (["info", "process", "--event", "nomap=x"], "nomap"),
        (["run", "process", "--dur", "1s"], "unrecognized arguments: --dur"),
        (["info", "a\x1b[31m\nb"], r"'a\x1b[31m\nb'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(eunomia, words, said):
    assert said in eunomia(*words).one_line(2)


NO_NUMBERS = ["9" * 5000, "0x" + "f" * 5000, "1e400", "inf", "nan", "-1", "1_000", "٣", "²", "+5", "1.5.5"]


@pytest.mark.parametrize(
    "option",
    ["--pid", "--uid", "--count", "--duration", "--interval", "--ring-size", "--rotate", "--set=wanted_uid", "--attach=on_exec"],
)
@pytest.mark.parametrize("word", NO_NUMBERS, ids=lambda word: ascii(word[:8]))
def test_what_is_no_number_is_wrong_usage_and_repeated_in_part(eunomia, compiled, option, word):
    source = GOOD.replace('SEC("tp/sched/sched_process_exec")', 'SEC("perf_event")') if "attach" in option else GOOD
    if option in {"--attach=on_exec", "--set=wanted_uid"}:
        needs.root()
    if option == "--set=wanted_uid" and word == "+5":  # which C reads, too
        word = "+-5"
    said = eunomia("run", compiled(source), f"{option}={word}").one_line(2)
    assert "bug in eunomia" not in said
    assert len(said) < 300


def test_what_is_no_option_is_repeated_in_part(eunomia):
    said = eunomia("run", "process", "--no-such", "9" * 5000).one_line(2)
    assert "unrecognized arguments: --no-such 999" in said
    assert said.endswith("... (see eunomia run --help)")
    assert len(said) < 1000


def test_a_terminal_of_absurd_width_is_none(eunomia):
    assert eunomia("list", environment={"COLUMNS": "9" * 5000}).code == 0
    assert eunomia("run", "--help", environment={"COLUMNS": "9" * 5000}).code == 0


def test_no_command_at_all_shows_the_help_and_exits_with_2(eunomia):
    done = eunomia()
    assert (done.code, done.out) == (2, "")
    assert "examples:" in done.err


@pytest.mark.parametrize("command", [["info"], ["run", "--duration", "0.2"]])
class TestAnObjectThatIsNone:
    @pytest.fixture
    def said(self, eunomia, command):
        return lambda path, code=1: eunomia(*command, path).one_line(code)

    def test_is_missing(self, said, tmp_path):
        assert said(tmp_path / "none.bpf.o") == f"{tmp_path}/none.bpf.o: No such file or directory"

    def test_is_a_directory(self, said, tmp_path):
        assert "it is a directory, not a BPF object" in said(f"{tmp_path}/")

    def test_is_no_elf_file(self, said, tmp_path):
        (tmp_path / "text.o").write_text("hello")
        assert "text.o: not an ELF file" in said(tmp_path / "text.o")

    def test_is_empty(self, said, tmp_path):
        (tmp_path / "empty.o").touch()
        assert "the file is empty" in said(tmp_path / "empty.o")

    @pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.99])
    def test_is_cut_short(self, said, compiled, part):
        path = compiled()
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        assert "truncated" in said(path)

    def test_is_for_the_processor(self, said, tmp_path):
        path = tmp_path / "native.o"
        subprocess.run(
            [needs.program("gcc", "gcc"), "-xc", "-", "-c", "-o", path], input=b"int x;", check=True
        )
        assert "object, not a BPF one: compile with clang -target bpf" in said(path)

    def test_has_the_other_byte_order(self, said, compiled):
        assert "is a big-endian BPF object" in said(compiled(target="bpfeb"))

    def test_has_no_btf(self, said, compiled):
        path = compiled()
        strip = needs.program("llvm-objcopy", "llvm")
        subprocess.run([strip, "--remove-section=.BTF", "--remove-section=.BTF.ext", path], check=True)
        assert "has no BTF (type information): compile with clang -g" in said(path)

    def test_has_no_program(self, said, compiled):
        assert "has no BPF programs" in said(compiled("int x = 1;"))


def test_a_refusal_by_the_verifier_tells_its_reason_in_a_line_and_all_of_it_when_asked(eunomia, compiled):
    needs.root()
    path = compiled(REFUSED)
    said = eunomia("run", path, "--duration", "0.2").one_line(1)
    assert said.startswith("the verifier refused on_exec: R0 invalid mem access 'map_value_or_null'")
    assert "EUNOMIA_DEBUG=1" in said
    debug = eunomia("run", path, "--duration", "0.2", environment={"EUNOMIA_DEBUG": "1"})
    assert "processed" in debug.err
    assert "Traceback" in debug.err


def test_who_may_not_load_programs_is_told_so(eunomia):
    assert "run as root (sudo)" in eunomia("run", "process", nobody=True).one_line(1)


def test_a_setting_that_does_not_exist_is_named_with_those_that_do(eunomia, compiled):
    said = eunomia("run", compiled(), "--set", "nosuch=1").one_line(2)
    assert "no setting 'nosuch': there are wanted_uid" in said


def test_a_setting_that_does_not_fit_is_refused(eunomia, compiled):
    needs.root()
    said = eunomia("run", compiled(), "--set", "wanted_uid=many").one_line(2)
    assert said == "setting wanted_uid (__u32): 'many' is not a number"


@pytest.mark.parametrize("words", [["info", "process"], ["--help"], ["completion", "bash"]])
def test_a_full_disk_is_said(eunomia, words):
    with open("/dev/full", "w") as full:
        done = eunomia(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.code == 1
    assert done.err == "eunomia: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("words", [["info", "process"], ["--help"], ["list"]])
def test_a_closed_pipe_ends_quietly(words):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([EUNOMIA, *words], stdout=writes, stderr=subprocess.PIPE, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


def test_closed_standard_output_is_an_error_and_not_somebody_elses_descriptor():
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{EUNOMIA}' list >&-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "eunomia: the output cannot be written: Bad file descriptor\n",
    )


def test_ctrl_c_ends_quietly():
    script = "import os, signal, sys; from eunomia.cli import main; from eunomia import source\n"
    script += "source.open_source = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
    script += "sys.exit(main(['info', 'process']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_error_of_eunomias_own_is_called_one(monkeypatch, capsys):
    from eunomia import source
    from eunomia.cli import main

    def broken(*_):
        raise KeyError("x")

    monkeypatch.delenv("EUNOMIA_DEBUG", raising=False)
    monkeypatch.setattr(source, "open_source", broken)
    assert main(["info", "process"]) == 1
    assert "this is a bug in eunomia" in capsys.readouterr().err


def test_a_good_object_is_no_error(eunomia, compiled):
    done = eunomia("info", compiled(GOOD))
    assert (done.code, done.err) == (0, "")


def test_the_version_is_the_packages(eunomia):
    from eunomia import __version__

    assert eunomia("--version").out == f"eunomia {__version__}\n"


@pytest.mark.parametrize("command", ["run", "list", "info", "doctor", "completion"])
def test_each_command_has_help_with_examples(eunomia, command):
    done = eunomia(command, "--help")
    assert done.code == 0
    assert f"eunomia {command}" in done.out.partition("usage:")[2].partition("\n")[0]
    assert f"eunomia {command} " in done.out.partition("options:")[2]


def test_a_command_imports_no_other_commands_module():
    script = "import sys; from eunomia.cli import main; main(['completion', 'bash'])\n"
    script += "print([m for m in sys.modules if m.startswith('eunomia.cli.') or m == 'numpy'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert "eunomia.cli.completion" in loaded
    others = ("run", "containers", "tree", "list", "info", "doctor")
    assert not [name for name in others if f"'eunomia.cli.{name}'" in loaded]
    assert "'numpy'" not in loaded
