"""Pairs of drugs in cell lines."""
