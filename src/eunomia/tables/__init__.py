# SPDX-License-Identifier: BSD-2-Clause
"""Tables of kernel facts, made by the scripts in tools/."""
