"""
lookup: who is calling?

Consumes CallStarted, ContactChanged, CrmHookReceived, SyncUsers; where unknown callers are added to
a CRM CallAnswered, CallEnded and its own CreateContact; where a CRM shows cards by itself those and
CallRinging, CallTransferred, LegEnded and DialStateChanged; TellCrmStatus. Answers FindContact,
FetchUsers, FetchModule, RegisterModule.
Asks CRMs without hooks what changed, and keeps its telephony module in CRMs as the site says.
Publishes ContactResolved, ContactUnknown, UsersSynced, CardTold, CrmStatusTold; CreateContact,
ContactChanged and then ContactCreated.
Owns ``lookup.users`` (CRM users as last read), ``lookup.polls`` (until when changes are known),
``lookup.callers`` and ``lookup.makings`` (unknown callers and who makes contacts of them),
``lookup.cards`` (who was told of which call), ``lookup.modules`` (what CRMs have of us),
``lookup.statuses`` (which status a CRM was told last of an agent), and fills the contact cache of
``shared.crm.finder``.
"""
