# SPDX-License-Identifier: BSD-2-Clause
"""cgroup -> container: who made a row, told from cgroup ids and what runtimes write to disk."""
