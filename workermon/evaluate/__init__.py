"""Evaluate: identifiers in, alerts and their notifications out."""
