"""
gateway: everything by HTTP.

Hooks of PBXs and CRMs and clicks in CRMs come in; what a tenant has is set up, read and tried;
calls, dials, contacts, agents and dead letters are read; screens follow live streams; subscribers
are told of events by webhooks. One room for each:

* ``hooks``: what PBXs and CRMs send      * ``calls``: calls, dials, entries
* ``setup``: what administrators set up   * ``crm``: contacts and users
* ``domain``, ``screens``: pops, streams  * ``recordings``: played, and by whom
* ``subscribers``: webhooks out           * ``access``: users, keys, the audit log

Publishes HookReceived, CrmHookReceived, AgentStatusChanged, ContactChanged, SyncUsers,
CallSummarised, PopSeen and, as a person's choice, ContactResolved; asks FindContact, FetchUsers,
FetchCall, FindCalls, SearchCalls, CountCalls, PlaceDial, CancelDial, FetchDial, ListDials,
ListAgents, ListLinks, FetchModule, RegisterModule and the journal's questions about entries.
Consumes, for the screens, live copies of CallStarted, CallRinging, CallAnswered, CallTransferred,
LegEnded, CallEnded, ContactResolved, ContactUnknown, DialStateChanged, AgentStatusSettled and
PopSeen; for subscribers each of those but the last, and CallQueued, CallHeld, CallResumed,
RecordingReady, CallSummarised, CallRouted, ContactCreated, ContactChanged, CallJournaled,
JournalFailed and CardTold.
Owns ``gateway.api_keys``, ``gateway.api_users``, ``gateway.key_uses``, ``gateway.audit``,
``gateway.recording_accesses``, ``gateway.hook_marks`` (signed hooks that came), ``gateway.clicks``
(which click is whose double), ``gateway.pops_seen``, ``gateway.subscribers``,
``gateway.deliveries`` and ``gateway.spool``.
"""
