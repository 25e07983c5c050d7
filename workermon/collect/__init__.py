"""Collect: identifiers in, samples out."""
