# SPDX-License-Identifier: BSD-2-Clause
"""BPF objects: what they contain, loading and attaching them, and reading their buffers and maps."""
