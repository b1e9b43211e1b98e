"""The six services. Each is a folder of the same files and knows none of the others."""
