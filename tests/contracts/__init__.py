# SPDX-License-Identifier: BSD-2-Clause
"""Conventions that can be checked, each failure with its fix."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/eunomia"
