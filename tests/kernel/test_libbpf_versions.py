# SPDX-License-Identifier: BSD-2-Clause
"""Objects that need a newer libbpf are refused for that reason."""

import pytest

from eunomia.kernel.errors import BadObject, KernelError
from eunomia.kernel.libbpf import lib
from eunomia.kernel.libbpf_versions import too_new
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.spec import Spec

OLD = (lib.libbpf_major_version(), lib.libbpf_minor_version()) < (1, 2)
pytestmark = pytest.mark.skipif(not OLD, reason="this libbpf knows these sections")


@pytest.mark.parametrize(
    ("section", "version"),
    [("netkit/primary", "1.3"), ("uprobe.multi//bin/sh:main", "1.3"), ("kprobe.session/vfs_*", "1.5"), ("?tcx/ingress", "1.3")],
)
def test_a_section_of_a_newer_libbpf_is_refused_with_its_version(bpf, section, version):
    data = bpf(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')
    with pytest.raises((BadObject, KernelError), match=f"needs libbpf {version} or later, this one is 1.") as refused:
        Loaded(Spec(data, "new"), programs=["f"])
    assert "kernel" not in str(refused.value)


def test_sections_that_this_libbpf_knows_are_not_blamed():
    assert not too_new(["tp/sched/sched_switch", "tc", "uprobe/x", "uprobe.s/x", "kprobe.multi/x", "xdp", ".rodata", "iter/task"])
