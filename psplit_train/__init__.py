"""Train chat models that hold several policies in one set of weights (Policy Split)."""
