# SPDX-License-Identifier: BSD-2-Clause
"""The trackers that come with Eunomia: one folder each, found by walking."""
