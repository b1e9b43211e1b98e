"""The command ``callmesh``."""
