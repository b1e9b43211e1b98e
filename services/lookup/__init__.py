"""
lookup: who is calling?

Consumes CallStarted, ContactChanged, SyncUsers; answers FindContact.
Publishes ContactResolved, ContactUnknown, UsersSynced.
Owns ``lookup.users`` (CRM users as last read) and fills the contact cache of ``shared.crm.finder``.
"""
