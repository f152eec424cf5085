"""Typed inputs, outputs and parameters of a model's functions, and a caller's columns read as them."""
