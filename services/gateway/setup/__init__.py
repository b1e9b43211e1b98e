"""What administrators set up: tenants, connections, templates, agents, rules."""
