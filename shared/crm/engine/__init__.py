"""What runs a template: requests, authentication, outcomes."""
