"""Every task under every condition, over frames of every kind, against transformers' own pipelines."""
