"""What CRMs know: contacts, users."""
