"""
A CRM and a PBX to try the mesh against, without accounts or phones: real servers on real sockets
that behave as the real ones were seen or documented to. For demos, tutorials and tests.
"""
