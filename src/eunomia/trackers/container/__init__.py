# SPDX-License-Identifier: BSD-2-Clause
"""Processes that start, fork and end."""
