"""Yeastar P-Series: its Open API v1.0, events by WebSocket or webhook, click-to-call, routes."""
