"""The recipe for fine-tuning micro systems on pictures of one's own: a rule, as BiT-HyperRule.

From the number of training images alone, as BiT-HyperRule (arXiv:1912.11370, section 3.3) decides,
and for every family the same:

    steps      30 passes over the images in batches of 32, at least 500 and at most 2,000 (or
               fewer, where that is all that there is time for)
    rates      0.03, 0.1, 0.3 and 1: momentum SGD, cosine, 5 % of warm-up, gradients clipped at 1
    held out   to choose on: 200 images, but at least a tenth and at most a quarter of train
    patience   a quarter of the steps (`Recipe.patience`): what has stopped to learn ends early

The classes enter where there are many: ten images of each are held out, within the same bounds.
"""

from __future__ import annotations

from bench.specs import Recipe

BATCH_SIZE = 32
PASSES = 30
LEAST_STEPS, MOST_STEPS = 500, 2_000
RATES = (0.03, 0.1, 0.3, 1.0)
HELD_OUT, HELD_OUT_PER_CLASS = 200, 10
LEAST_SHARE, MOST_SHARE = 0.1, 0.25


def own_rule(num_examples: int, num_classes: int, *, most_steps: int = MOST_STEPS) -> Recipe:
    """Return the recipe for a training split of so many images and classes.

    >>> own_rule(800, 5).steps, own_rule(800, 5).held_out
    (750, 0.25)
    >>> own_rule(10_000, 10).steps, own_rule(10_000, 10).held_out
    (2000, 0.1)
    """
    steps = min(most_steps, max(LEAST_STEPS, PASSES * num_examples // BATCH_SIZE))
    wanted = max(HELD_OUT, HELD_OUT_PER_CLASS * num_classes) / num_examples
    return Recipe(
        steps=steps,
        batch_size=min(BATCH_SIZE, num_examples),
        optimizer="sgd",
        learning_rates=RATES,
        held_out=round(min(MOST_SHARE, max(LEAST_SHARE, wanted)), 3),
        schedule="cosine",
        warmup_steps=steps // 20,
        clip_norm=1.0,
        patience=5,
        source="rule of baselines/own_rule.py",
    )
