# SPDX-License-Identifier: BSD-2-Clause
"""Eunomia shows what containers do on Linux."""

__version__ = "0.1.0"
