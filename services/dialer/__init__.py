"""
dialer: a click dials, an agent's status reaches the PBX.

Consumes DialNumber and SetAgentStatus, and CallStarted, CallRinging, CallAnswered, CallEnded of
the calls it ordered; answers FetchDial. Publishes DialStateChanged.
Owns ``dialer.dials`` and ``dialer.statuses`` (when an agent's status was last ordered).
"""
