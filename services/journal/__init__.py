"""
journal: what became of a call, once, in the CRM; what becomes known later changes that entry.

Consumes all call events (CallStarted, CallQueued, CallRinging, CallAnswered, CallHeld,
CallResumed, CallTransferred, LegEnded, CallEnded, RecordingReady,
CallSummarised), PbxResynced, CallRouted, DialStateChanged, ContactResolved,
ContactUnknown, and its own CallJournaled and JournalFailed; of ContactChanged live copies, for
what it has in memory; answers FetchCall, ListCalls,
FindCalls, SearchCalls, CountCalls,
ListEntries, FetchEntries, SummariseEntries, ReplayEntries and ReconcileCalls.
Publishes CallJournaled, JournalFailed, and CallEnded of calls whose end nobody told.
Owns ``journal.calls`` and ``journal.entries``.
"""
