# SPDX-License-Identifier: BSD-2-Clause
"""The built-in trackers, one folder each."""
