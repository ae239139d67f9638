# SPDX-License-Identifier: BSD-2-Clause
"""What goes wrong between a tracker and a registry, one class for each case that callers distinguish."""

from __future__ import annotations


class DistributionError(RuntimeError):
    """A tracker could not be compiled, pushed, pulled, signed or verified; the message says which and why."""


class BadReference(DistributionError):
    """What should name a tracker in a registry does not; a mistake of the user."""


class RegistryError(DistributionError):
    """The registry could not be reached, refused, or broke its protocol."""


class NotFound(RegistryError):
    """The registry does not have it."""


class BadArtefact(DistributionError):
    """What the registry has is not a tracker, or not one for this machine."""


class BadKey(DistributionError):
    """A file is not a key that can be used here."""


class Refused(DistributionError):
    """The policy does not allow it: not signed by a known key, or not on the list."""


def need(package: str, what: str) -> DistributionError:
    """Return the error for a Python package that is not installed."""
    return DistributionError(f"{what} needs the Python package {package}: pip install 'eunomia[oci]'")
