# SPDX-License-Identifier: BSD-2-Clause
"""Kubernetes API: labels, owners and services of this node's pods. Threads ask, the engine never waits."""
