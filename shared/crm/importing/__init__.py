"""Templates of PBX vendors → ours, with a report of what was taken, changed and left out. Pure."""
