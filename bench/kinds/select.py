"""The choice between the candidates of a fine-tuning sweep; fine-tuning plans it."""

from __future__ import annotations

from bench.kinds.base import CHOOSING, KindCard, Stage, metric

SELECT = Stage(
    name="select",
    title="Choosing rates",
    role="choice",
    work=CHOOSING,
    metrics=metric("val_top1"),
)
"""The stage of a choice, whoever makes it."""

CARD = KindCard(
    name="select",
    title="Choice of a learning rate",
    place=31,
    run="bench.jobs.select:run",
    stages=(SELECT,),
    needs_data=False,
    uses_device=False,
)
