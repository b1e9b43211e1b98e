"""The message bus: port, router, delivery rules, two adapters."""
