# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the table of processes."""

from contextlib import closing
from functools import cache

from eunomia.kernel.spec import Spec
from eunomia.processes import OBJECT
from eunomia.stream_schema import Schema


@cache
def life_schema() -> Schema:
    """What the compiled probe says of its stream; needs no root."""
    with closing(Spec.open(OBJECT)) as spec:
        return spec.streams["life"].schema
