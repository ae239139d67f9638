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
    [("netkit/primary", "1.3"), ("uprobe.multi//bin/sh:main", "1.3"), ("kprobe.session/vfs_*", "1.5"), ("?netkit/peer", "1.3"),
     ("uprobe.multi.s//bin/sh:main", "1.3"), ("uretprobe.multi.s//bin/sh:main", "1.3")],
)
def test_a_section_of_a_newer_libbpf_is_refused_with_its_version(bpf, section, version):
    data = bpf(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')
    with pytest.raises((BadObject, KernelError), match=f"needs libbpf {version} or later, this one is 1.") as refused:
        Loaded.attached(Spec(data, "new"), programs=["f"])
    assert "kernel" not in str(refused.value)


@pytest.mark.parametrize(("section", "version"), [("usdt.s//bin/sh:a:b", "1.5"), ("netfilter", "1.3"), ("sk_skb/verdict", "1.5")])
def test_where_the_first_version_is_not_known_one_that_knows_it_is_named(bpf, section, version):
    data = bpf(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')
    with pytest.raises((BadObject, KernelError), match=f"needs a later libbpf, such as {version}, this one is 1."):
        Loaded.attached(Spec(data, "new"), programs=["f"])


@pytest.mark.parametrize("section", [".addr_space.1", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link"])
def test_data_that_only_a_newer_libbpf_makes_a_map_of_is_refused_for_that_reason(bpf, section):
    source = f'''struct ops {{ long a; }}; SEC("{section}") struct ops it = {{ 1 }};
        SEC("raw_tp/sys_enter") int f(void *ctx) {{ return it.a; }}'''
    with pytest.raises((BadObject, KernelError), match=f"section [?]?{section.lstrip('?')} needs .*libbpf 1|such as 1"):
        Loaded.attached(Spec(bpf(source), "new"), programs=["f"])


def test_a_program_for_tcx_that_the_verifier_refuses_is_refused_for_that_reason(bpf):
    data = bpf('SEC("tcx/ingress") int f(void *ctx) { return *(volatile int *)0; }')
    with pytest.raises(KernelError, match="the verifier"):
        Loaded.attached(Spec(data, "new"), programs=["f"], targets={"f": ["lo"]})


def test_sections_that_this_libbpf_knows_are_not_blamed():
    assert not too_new(["tcx/ingress", "tc/egress", ".struct_ops", "tp/sched/sched_switch", "tc", "uprobe/x", "uprobe.s/x", "kprobe.multi/x", "xdp", ".rodata", "iter/task"])
