# SPDX-License-Identifier: BSD-2-Clause
"""System calls, counted and timed in the kernel."""
