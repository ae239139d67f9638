# SPDX-License-Identifier: BSD-2-Clause
"""Reads a file that a user named, whole, up to a number of bytes."""

from __future__ import annotations

from eunomia.oci.errors import DistributionError


def read(path: str, most: int) -> bytes:
    """Return a file's bytes; raises an error that names it if it cannot be read, or has more than ``most``."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DistributionError(f"{path}: {error.strerror}") from None
    if len(data) > most:
        raise DistributionError(f"{path}: it has more than {most >> 10} KiB")
    return data
