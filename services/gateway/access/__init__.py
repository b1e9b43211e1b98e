"""Who may do what: users, their API keys, rates, the audit log."""
