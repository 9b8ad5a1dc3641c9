"""Units in which numbers of very different sizes are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def common_exponent(numbers: Sequence[float]) -> int:
    """Return the power of ten (a multiple of 3, at most 0) that makes the largest at least 1."""
    largest = max((abs(number) for number in numbers), default=0.0)
    if largest == 0 or largest >= 0.1:
        return 0
    return 3 * math.floor(math.log10(largest) / 3)


def power_unit(exponent: int, unit: str) -> str:
    """Return `10⁻⁶ exaFLOPs`; the unit alone for exponent 0."""
    if exponent == 0:
        return unit
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits} {unit}"


def params_scale(counts: Sequence[int]) -> tuple[float, str]:
    """Return (divisor, unit) for parameter counts: thousands or millions."""
    return (1e6, "M") if max(counts, default=0) >= 1e6 else (1e3, "K")
