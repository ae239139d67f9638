# SPDX-License-Identifier: BSD-2-Clause
"""Trackers as OCI artefacts: compiled, pushed to a registry, pulled, signed and verified (docs/distribution.md)."""
