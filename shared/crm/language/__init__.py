"""The template language: pure functions over text and values, no input or output."""
