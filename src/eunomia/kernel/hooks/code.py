# SPDX-License-Identifier: BSD-2-Clause
"""Instructions of BPF, as many of them as stubs need (``struct bpf_insn``, include/uapi/linux/bpf.h)."""

from __future__ import annotations

import struct
import sys

_LITTLE = sys.byteorder == "little"
_BYTES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # sizes of loads: BPF_B, BPF_H, BPF_W, BPF_DW
_JUMPS = {"==": 0x15, ">": 0x25}
_SUMS = {"+": 0x00, "&": 0x50, "<<": 0x60, ">>": 0x70}

TAIL_CALL, GET_CURRENT_TASK_BTF = 12, 158  # enum bpf_func_id


def _one(opcode: int, to: int = 0, by: int = 0, offset: int = 0, number: int = 0) -> bytes:
    registers = to | by << 4 if _LITTLE else to << 4 | by
    return struct.pack("=BBhi", opcode, registers, offset, number)


def load(size: int, to: int, by: int, offset: int) -> bytes:
    """``to = *(size *)(by + offset)``"""
    return _one(0x61 | _BYTES[size], to, by, offset)


def move(to: int, by: int) -> bytes:
    """``to = by``"""
    return _one(0xBF, to, by)


def move_half(to: int, by: int) -> bytes:
    """``to = (u32)by``"""
    return _one(0xBC, to, by)


def number(to: int, value: int) -> bytes:
    """``to = value``"""
    return _one(0xB7, to, number=value)


def compute(to: int, sign: str, value: int) -> bytes:
    """``to = to sign value``, of the lower half; the upper one is zero then."""
    return _one(0x04 | _SUMS[sign], to, number=value)


def add(to: int, by: int) -> bytes:
    """``to += by``"""
    return _one(0x0F, to, by)


def jump_if(to: int, sign: str, value: int, over: bytes) -> bytes:
    """Go over some instructions where ``to sign value``; return the jump and these."""
    return _one(_JUMPS[sign], to, offset=len(over) // 8, number=value) + over


def map_(to: int, descriptor: int) -> bytes:
    """``to`` is a map."""
    return _one(0x18, to, 1, 0, descriptor) + _one(0)


def map_value(to: int, descriptor: int) -> bytes:
    """``to`` points at an array's first value."""
    return _one(0x18, to, 2, 0, descriptor) + _one(0)


def call(helper: int) -> bytes:
    """Call a helper."""
    return _one(0x85, number=helper)


EXIT = number(0, 0) + _one(0x95)
