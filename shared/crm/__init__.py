"""CRMs: connectors are data (templates), one engine runs them all."""
