# SPDX-License-Identifier: BSD-2-Clause
"""Processes: from a process id to a process, with its command line, its ancestors and its user."""

import os

OBJECT = os.path.join(os.path.dirname(__file__), "processes.bpf.o")
