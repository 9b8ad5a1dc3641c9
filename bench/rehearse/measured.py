"""What a rehearsal of one shape found."""

from __future__ import annotations

import math

from bench.specs import Record


class Measured(Record):
    """Memory and time of a shape of work; what was not measured is None."""

    constant_gib: float = 0.0
    """Memory whatever the batch: weights, gradients, state of the optimizer, averages."""
    image_gib: float = 0.0
    """Memory that each image takes on top."""
    image_s: float | None = None
    """Seconds an image; None where the device was pretended."""
    checkpoint_gib: float = 0.0
    """Size of a checkpoint; 0 where nothing is trained."""
    fault: str = ""
    """What the code raised; empty: nothing."""

    def memory_gib(self, num_images: int) -> float:
        """Return the most memory held with so many images at once."""
        return self.constant_gib + self.image_gib * num_images

    def pieces(self, batch_size: int, memory_gib: float) -> int | None:
        """Return the parts, a power of two, of a batch that fit; None where one image does not.

        >>> Measured(constant_gib=10, image_gib=1).pieces(64, 50)
        2
        >>> Measured(constant_gib=10, image_gib=1).pieces(64, 10.5) is None
        True
        """
        pieces = 1
        while self.memory_gib(math.ceil(batch_size / pieces)) > memory_gib:
            if pieces >= batch_size:
                return None
            pieces = min(2 * pieces, batch_size)
        return pieces
