# SPDX-License-Identifier: BSD-2-Clause
"""A client of the API of ``eunomia server``: ``from eunomia.client import Client``."""

from __future__ import annotations

from eunomia.client.client import Client
from eunomia.client.connection import NoServer
from eunomia.client.events import Event, Events
from eunomia.client.problem import ApiProblem

__all__ = ["ApiProblem", "Client", "Event", "Events", "NoServer"]
