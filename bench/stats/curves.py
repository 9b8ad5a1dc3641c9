"""Curves of accuracy over compute: read between their points, never beyond them."""

from __future__ import annotations

from collections.abc import Iterable

from bench.stats.intervals import finite


def interpolate_log(x: Iterable[float], y: Iterable[float], at: float) -> float | None:
    """Return y at `at` on the curve through (x_N, y_N), straight between points over log x.

    None outside the measured range: nothing is extrapolated. All x must be positive.
    """
    import numpy as np

    x_N, y_N = np.array(finite(x)), np.array(finite(y))
    order = np.argsort(x_N, kind="stable")
    x_N, y_N = x_N[order], y_N[order]
    # The ends of a common range are computed: allow them the last bits.
    if not len(x_N) or not x_N[0] * (1 - 1e-12) <= at <= x_N[-1] * (1 + 1e-12):
        return None
    return float(np.interp(np.log(at), np.log(x_N), y_N))


def first_reaching_log(x: Iterable[float], y: Iterable[float], target: float) -> float | None:
    """Return the smallest x at which the curve through (x_N, y_N) reaches `target` from below.

    The curve is straight over log x. None where it starts above the target or never reaches it.
    """
    import numpy as np

    x_N, y_N = np.array(finite(x)), np.array(finite(y))
    order = np.argsort(x_N, kind="stable")
    x_N, y_N = x_N[order], y_N[order]
    reached = np.flatnonzero(y_N >= target)
    if not len(reached):
        return None
    right = int(reached[0])
    if right == 0:
        return float(x_N[0]) if y_N[0] == target else None
    share = (target - y_N[right - 1]) / (y_N[right] - y_N[right - 1])
    return float(np.exp((1 - share) * np.log(x_N[right - 1]) + share * np.log(x_N[right])))


def upper_envelope(x: Iterable[float], y: Iterable[float]) -> list[int]:
    """Return which of the points (x_N, y_N) no other point beats with as little x: by rising x.

    Along them y rises strictly, so a curve through them is monotone.
    """
    x_N, y_N = finite(x), finite(y)
    front: list[int] = []
    for i in sorted(range(len(x_N)), key=lambda i: (x_N[i], -y_N[i])):
        if not front or y_N[i] > y_N[front[-1]]:
            front.append(i)
    return front
