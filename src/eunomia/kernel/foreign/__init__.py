# SPDX-License-Identifier: BSD-2-Clause
"""Foreign objects: which of their programs run, and what their buffers and maps contain."""
