# SPDX-License-Identifier: BSD-2-Clause
"""A tracker may make its rows in user space; somebody else's as well as ours, by the same door."""

import struct
import subprocess

from eunomia.batch import Batch
from eunomia.identity import ON_HOST
from eunomia.source import open_source
from tests import needs
from tests.harness import schema_of, tracked
from tests.runtimes.docker import Docker


class Ends:
    """Makes a row of each first process that ended, and knows nothing else."""

    def __init__(self, registry, live):
        self.registry = registry
        self.schema = live.spec.streams["life"].schema
        self.started = 0

    def start(self, news):
        self.started += 1

    def rows(self, raw, news, until, last):
        assert self.started == 1
        assert all(one.kind for one in news)
        made = []
        for batch in raw["raw_sign"]:
            for sign, time, pid in zip(batch.raw("sign"), batch.raw("time"), batch.raw("pid"), strict=True):
                if sign == 2:  # ENDED
                    made.append({"time": time, "pid": pid, "event": 7, "previous_name": "é\n"})
        if not made:
            return []
        batch = Batch.made(self.schema, made, [ON_HOST] * len(made))
        batch.stream = "life"
        return [batch]

    def next_deadline(self):
        return None


def test_a_tracker_of_somebody_else_makes_its_rows(docker: Docker):
    source = open_source("container")
    assert source.found is not None
    own = source.found.tracker._replace(derive=f"{__name__}:Ends", whole=False)
    source.found = source.found._replace(tracker=own)
    with tracked(source) as seen:
        docker.run("run", "--rm", docker.image, "true")
        seen.until(lambda s: s.all)
    row = seen.all[0]
    assert (row["event"], row["previous_name"], row["identity"]) == ("exited", "é\n", "host")
    account = seen.ledger("life")
    assert account.emitted == account.delivered == len(seen.all)
    assert account.lost == 0


def test_what_the_ring_refuses_is_lost_and_said():
    needs.root()
    source = open_source("container")
    with source.load(ring_size=4096) as live:  # has room for 85 records, and nobody drains it
        for _ in range(100):
            child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
            live.maps["firsts"].update(struct.pack("=I", child.pid), struct.pack("=Q", 1))
            child.communicate()
        count = live.count("life")
    source.spec.close()
    assert count.emitted == 0
    assert 10 <= count.lost <= 40


def test_rows_made_here_read_as_they_were_given():
    schema = schema_of("container", "life")
    batch = Batch.made(schema, [{"event": 1}, {"event": 3, "previous_name": "ü\0b", "exit_code": -1}])
    assert list(batch.values("event")) == ["created", "renamed"]
    assert list(batch.values("previous_name")) == ["", "ü\0b"]
    assert list(batch.values("exit_code")) == [0, None]
    assert [i.state for i in batch.identities] == ["unknown", "unknown"]
    assert list(batch[1:].values("previous_name")) == ["ü\0b"]
    schema = schema_of("process", "exec")
    batch = Batch.made(schema, [{"pid": 7, "exe": "/a/../b", "argv": "a\0b\0"}])
    assert (batch.values("exe")[0], batch.values("argv")[0], batch.values("comm")[0]) == ("/b", ["a", "b"], "")
