"""Tests of the kinds of rules."""
