"""Shipped for extenders: a suite for a new store, faults to inject, real servers and small models to test with."""
