"""Recordings of calls: links that end, files that are opened with care, copies that are kept."""
