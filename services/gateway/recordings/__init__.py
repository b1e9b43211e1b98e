"""Recordings: who may hear them, where they come from, who heard them."""
