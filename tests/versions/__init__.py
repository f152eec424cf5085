"""Versions, blobs and pointers in a store, and a model of the protocol by which they are published and collected."""
