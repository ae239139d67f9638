# SPDX-License-Identifier: BSD-2-Clause
"""Columns of processes, on the rows of any stream that has a pid."""

import os
import subprocess


def test_any_tracker_s_rows_can_say_who_did_it(start, worker, tmp_path):
    path = tmp_path / "opened"
    path.touch()
    running = start("opensnoop", "-o", "json", "--add", "process", "--comm", "cat").attached()
    subprocess.run(["sh", "-c", f"cat {path}; :"], check=True)
    ended = running.end()
    row = next(r for r in ended.rows if r["path"] == str(path))
    process = row["process"]
    assert process["argv"] == ["cat", str(path)]
    assert process["exe"] == os.path.realpath("/bin/cat")
    assert process["user"] == "root"
    assert process["ancestors"][0]["argv"] == ["sh", "-c", f"cat {path}; :"]
    assert process["ancestors"][1]["pid"] == os.getpid()
    assert process["exec_id"].split(":")[-1] == str(row["pid"])
    assert ended.ledger["opensnoop/open"]["lost"] == 0


def test_columns_name_them_like_any_other(start):
    running = start("process", "-o", "csv", "--streams", "exec", "--columns", "pid,process.argv").attached()
    subprocess.run(["/bin/true", "a b"], check=True)
    ended = running.end()
    assert ended.out.splitlines()[0] == b"pid,process.argv"
    assert any(line.endswith(b",/bin/true 'a b'") for line in ended.out.splitlines())


def test_add_goes_without_columns_and_with_columns_that_there_are(run):
    run("process", "--add", "process", "--columns", "pid").refused(2, "--add: it adds columns to the usual ones")
    run("process", "--add", "process.ancestor").refused(2, "did you mean 'process.ancestors'?")


def test_filters_leave_the_table_whole(start, worker):
    running = start("process", "-o", "json", "--comm", "true", "--add", "process.ancestors").attached()
    subprocess.run(["sh", "-c", "/bin/true filtered; :"], check=True)
    ended = running.end()
    row = next(r for r in ended.rows if r.get("argv") == ["/bin/true", "filtered"])
    assert row["process"]["ancestors"][0]["comm"] == "sh"
    assert {r["comm"] for r in ended.rows} == {"true"}
