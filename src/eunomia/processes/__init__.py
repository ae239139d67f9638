# SPDX-License-Identifier: BSD-2-Clause
"""Who is who: pid -> process, with its command line, its ancestors and its user."""
