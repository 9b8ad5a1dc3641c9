"""What a rehearsal of one shape found."""

from __future__ import annotations

from bench.specs import Record


class Measured(Record):
    """Time and memory of a shape; what was not measured is None."""

    memory_gib: float
    """Most memory held, in GiB, with the whole batch at once."""
    constant_gib: float = 0.0
    """Part of it that does not depend on the batch: weights, gradients, optimizer, averages."""
    image_s: float | None = None
    """Seconds an image; None where the device was pretended."""
    checkpoint_gib: float = 0.0
    """Size of a checkpoint."""
    fault: str = ""
    """What the code raised; empty: nothing."""

    def pieces(self, batch_size: int, memory_gib: float) -> int | None:
        """Return the parts of a batch that fit a memory; None where one image does not.

        >>> Measured(memory_gib=90, constant_gib=10).pieces(64, 50)
        2
        >>> Measured(memory_gib=90, constant_gib=10).pieces(64, 11) is None
        True
        """
        moving, free = self.memory_gib - self.constant_gib, memory_gib - self.constant_gib
        if free <= moving / batch_size:
            return None
        pieces = 1
        while moving / pieces > free:
            pieces *= 2
        return min(pieces, batch_size)

    def piece_gib(self, pieces: int) -> float:
        """Return the most memory held when a batch comes in so many pieces."""
        return self.constant_gib + (self.memory_gib - self.constant_gib) / pieces
