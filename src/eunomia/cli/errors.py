# SPDX-License-Identifier: BSD-2-Clause
"""What a user can get wrong on the command line."""


class UsageError(ValueError):
    """An option's value, or options that do not go together; exit code 2."""
