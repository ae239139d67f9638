# SPDX-License-Identifier: BSD-2-Clause
"""Seeded fuzzers of everything that reads what strangers wrote: ``python -m tests.fuzz``, ``make fuzz``."""
