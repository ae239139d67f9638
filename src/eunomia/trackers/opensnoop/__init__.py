# SPDX-License-Identifier: BSD-2-Clause
"""Files that are opened, or cannot be."""
