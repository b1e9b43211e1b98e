"""Webhooks out: who wants to be told of what, and what became of telling."""
