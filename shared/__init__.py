"""The rooms that the services share. Who may import whom: docs/explanation/architecture.md."""
