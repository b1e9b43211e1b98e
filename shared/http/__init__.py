"""Incoming HTTP: typed operations, problem documents, OpenAPI, API keys."""
