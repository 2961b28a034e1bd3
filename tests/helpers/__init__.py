"""Helpers for tests of several parts: fabricated sweeps, stand-ins, small data sets."""
