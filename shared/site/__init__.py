"""
What an administrator sets up per tenant: connections, extensions, routing rules.

Four services read it, so it is a room of its own: one document per tenant, written by
``callmesh apply`` (and later the API), noticed by every replica within a second.
"""
