# SPDX-License-Identifier: BSD-2-Clause
# What cffi makes of native/: C's types have no counterpart that mypy could check.
from typing import Any

ffi: Any
lib: Any
