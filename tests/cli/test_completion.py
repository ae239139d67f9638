# SPDX-License-Identifier: BSD-2-Clause
"""What shells are told may stand at a place, asked as they ask."""

import os
import subprocess

import pytest

from eunomia.cli import COMMANDS
from tests import needs
from tests.cli.conftest import EUNOMIA


def complete(line, cwd="/sys/kernel"):
    """Return what the cursor's word at the end of a line can become."""
    reads, writes = os.pipe()
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
    }  # fmt: skip
    script = f'exec 8>&{writes} 9>/dev/null; exec "$0"'
    subprocess.run(
        ["/bin/bash", "-c", script, EUNOMIA],
        cwd=cwd, env=environment, pass_fds=[writes], capture_output=True, check=True, timeout=20,
    )  # fmt: skip
    os.close(writes)
    with os.fdopen(reads) as answer:
        return [word.strip() for word in answer.read().split("\n") if word.strip()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("eunomia ", {*COMMANDS}),
        ("eunomia d", {"doctor"}),
        ("eunomia start pro", {"process"}),
        ("eunomia start process --coa", {"--coalesce"}),
        ("eunomia attach --host unix:/none ", set()),
        ("eunomia ps -o ", {"table", "json"}),
        ("eunomia run pro", {"process"}),
        ("eunomia run process sys", {"syscall"}),
        ("eunomia run process -o ", {"table", "json", "csv"}),
        ("eunomia run process --columns exi", {"exit_code"}),
        ("eunomia run process --columns pid,exi", {"pid,exit_code"}),
        ("eunomia run process --streams f", {"fork"}),
        ("eunomia run process --dur", {"--duration"}),
        ("eunomia run process --add pid,process.an", {"pid,process.ancestors"}),
        ("eunomia tree --name", {"--namespace"}),
        ("eunomia info open", {"opensnoop"}),
        ("eunomia info process -o ", {"table", "json"}),
        ("eunomia completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_a_word_is_completed(line, expected):
    assert set(complete(line)) == expected


def test_objects_are_completed_and_other_files_are_not(compiled, tmp_path):
    compiled(name="mine.bpf.o")
    (tmp_path / "mine.bpf.c").touch()
    assert set(complete("eunomia run ./mi", cwd=tmp_path)) == {"./mine.bpf.o"}


def test_an_objects_settings_and_programs_are_completed(compiled, tmp_path):
    path = compiled()
    assert complete(f"eunomia run {path} --set w") == ["wanted_uid="]
    assert complete(f"eunomia run {path} --attach ") == ["on_exec="]


def test_a_broken_object_on_the_line_does_no_harm(tmp_path):
    (tmp_path / "bad.o").write_text("no")
    assert "pod.name" in complete(f"eunomia run {tmp_path}/bad.o --columns p")


def test_names_of_running_containers_are_completed(docker):
    name = f"complete-{os.getpid()}"
    docker.run("run", "-d", "--name", name, docker.image, "sleep", "60")
    try:
        assert complete("eunomia run process --container comp") == [name]
    finally:
        docker.run("rm", "-f", name)


@pytest.mark.parametrize(("shell", "package"), [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")])
def test_the_script_is_one_that_the_shell_can_read(eunomia, shell, package, tmp_path):
    program = needs.program(shell, package)
    script = tmp_path / "script"
    script.write_text(eunomia("completion", shell).out)
    done = subprocess.run([program, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_with_the_script(eunomia, tmp_path):
    script = eunomia("completion", "bash").out
    script += '\nCOMP_LINE="eunomia run pro"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=(eunomia run pro)'
    script += "; COMP_CWORD=2; COMP_TYPE=9\n"
    script += '_python_argcomplete eunomia pro run; printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        ["/bin/bash"], input=script, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{os.path.dirname(EUNOMIA)}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stdout.split() == ["process"], done.stderr
