"""Agents' screens: pops and what else happens, as streams that can be resumed."""
