"""Who may ask a CRM when: rates, places, pauses and a breaker, shared by all replicas."""
