"""Sessions at CRMs: grants, logins, tokens; made once for all replicas, kept sealed, renewed."""
