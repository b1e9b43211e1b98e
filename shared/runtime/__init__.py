"""One host for one service or all six: settings, start, readiness, stop."""
