"""
lookup: who is calling?

Consumes CallStarted, ContactChanged, CrmHookReceived, SyncUsers, and where unknown callers are
added to a CRM CallAnswered, CallEnded and its own CreateContact; answers FindContact, FetchUsers.
Asks CRMs without hooks what changed.
Publishes ContactResolved, ContactUnknown, UsersSynced; CreateContact, ContactChanged and then
ContactCreated.
Owns ``lookup.users`` (CRM users as last read), ``lookup.polls`` (until when changes are known),
``lookup.callers`` and ``lookup.makings`` (unknown callers and who makes contacts of them), and
fills the contact cache of ``shared.crm.finder``.
"""
