"""
gateway: everything by HTTP.

PBX hooks and orders to dial come in; calls, contacts and dials are read; screen pops go to agents
as server-sent events. Publishes HookReceived, DialNumber; asks FindContact, FetchCall, ListCalls,
FetchDial. Consumes, for the screens, live copies of CallRinging, CallAnswered, LegEnded,
CallEnded, ContactResolved, ContactUnknown, DialStateChanged.
Owns ``gateway.api_keys``, ``gateway.audit`` and ``gateway.spool``.
"""
