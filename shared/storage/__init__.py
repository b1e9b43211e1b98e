"""Documents: port and two adapters."""
