"""Yeastar P-Series templates, XML: into our form, and out of it."""
