# SPDX-License-Identifier: BSD-2-Clause
"""The server: one engine in a thread of its own, and an HTTP API to it. It needs the extra ``server``."""
