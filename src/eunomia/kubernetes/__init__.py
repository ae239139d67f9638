# SPDX-License-Identifier: BSD-2-Clause
"""What the Kubernetes API knows of this node's pods: labels, owners, services. Threads ask, the loop never waits."""
