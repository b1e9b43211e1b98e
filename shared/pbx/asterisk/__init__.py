"""Asterisk 16 to 22: Manager Interface (AMI), FastAGI, and the reading of its channel events."""
