"""Outgoing HTTP: one client, bounded in time and size, that goes only where it may."""
