"""Bytes by key: the contract of a store, S3, a local folder, and what proves a store fit."""
