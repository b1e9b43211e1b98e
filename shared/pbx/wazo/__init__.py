"""Wazo by its WebSocket and REST APIs."""
