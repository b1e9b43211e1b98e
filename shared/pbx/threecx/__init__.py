"""3CX v20 by its Call Control API: events over a WebSocket, state and orders over HTTP."""
