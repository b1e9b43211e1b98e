"""Calls by HTTP: read, searched, exported, summed up, dialled, and on their way into the CRMs."""
