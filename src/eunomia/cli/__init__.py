# SPDX-License-Identifier: BSD-2-Clause
"""The command line."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    from eunomia.cli import run
    from eunomia.cli.errors import UsageError
    from eunomia.kernel.errors import BadObject, BadSetting, KernelError
    from eunomia.source import NoSuchTracker

    parser = argparse.ArgumentParser(prog="eunomia")
    subparsers = parser.add_subparsers(required=True)
    run.add(subparsers)
    args = parser.parse_args(argv)
    try:
        return int(args.go(args))
    except (UsageError, BadSetting, NoSuchTracker) as error:
        sys.stderr.write(f"eunomia: {error}\n")
        return 2
    except (BadObject, KernelError, OSError) as error:
        sys.stderr.write(f"eunomia: {error}\n")
        return 1
