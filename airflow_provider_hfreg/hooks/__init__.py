"""Connections: where a registry lies and how to reach it."""
