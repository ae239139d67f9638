# SPDX-License-Identifier: BSD-2-Clause
"""Who is who."""

from contextlib import closing
from functools import cache
from pathlib import Path

import eunomia.processes
from eunomia.batch import Schema
from eunomia.kernel.spec import Spec

OBJECT = Path(eunomia.processes.__file__).parent / "processes.bpf.o"


@cache
def life_schema() -> Schema:
    """What the compiled probe says of its stream; needs no root."""
    with closing(Spec.open(OBJECT)) as spec:
        return spec.streams["life"].schema
