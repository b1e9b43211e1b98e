"""
gateway: everything by HTTP.

Hooks of PBXs and CRMs and orders to dial come in; PBX connections are set up and tried; calls,
contacts and dials are read; CRMs are connected by consent; screen pops go to agents as
server-sent events, and agents choose who of several a caller is. Publishes HookReceived,
CrmHookReceived, DialNumber, SetAgentStatus, ContactChanged, SyncUsers, CallSummarised and, as a
person's choice, ContactResolved; asks FindContact, FetchUsers, FetchCall, FindCalls,
SearchCalls, CountCalls, FetchDial, ListLinks.
Consumes, for the screens, live copies of CallRinging, CallAnswered, LegEnded, CallEnded,
ContactResolved, ContactUnknown, DialStateChanged.
Owns ``gateway.api_keys``, ``gateway.audit``, ``gateway.recording_accesses`` and ``gateway.spool``.
"""
