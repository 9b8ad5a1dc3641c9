"""How weights are updated: objectives, optimizers, the loop, and checkpoints that survive kills."""
