# SPDX-License-Identifier: BSD-2-Clause
"""The libbpf face: specs, loaded objects, the schema that BTF gives, drains and snapshots."""
