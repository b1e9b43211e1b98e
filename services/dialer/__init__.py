"""
dialer: a click dials, and what an agent does is known on every side.

Consumes DialNumber, and CallStarted, CallRinging, CallAnswered, CallEnded of
the calls it ordered; answers PlaceDial, CancelDial, FetchDial, ListDials. Publishes DialNumber, to
itself, and DialStateChanged.
Of what agents do it consumes AgentStatusChanged, by which PBXs, CRMs and people tell, its own
SetAgentStatus, and CrmStatusTold; publishes SetAgentStatus, TellCrmStatus, and AgentStatusSettled;
answers ListAgents.
Owns ``dialer.dials``, ``dialer.turns`` (which dial a phone is at), ``dialer.meters`` (what was
dialled, against the limits), ``dialer.agents`` (what each agent does, and what each side was told
and said of that), and ``dialer.statuses`` (which order about an agent is the newest).
"""
