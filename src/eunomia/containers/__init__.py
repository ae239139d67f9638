# SPDX-License-Identifier: BSD-2-Clause
"""Containers: which one a cgroup belongs to, and what its runtime writes about it."""
