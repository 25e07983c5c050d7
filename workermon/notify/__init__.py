"""Deliver: what waits in the outbox goes to its channels."""
