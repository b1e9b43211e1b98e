"""
journal: what became of a call, once, in the CRM.

Consumes all call events (CallStarted, CallQueued, CallRinging, CallAnswered, CallHeld,
CallResumed, CallTransferred, LegEnded, CallEnded, RecordingReady), CallRouted, ContactResolved,
ContactUnknown, and its own CallJournaled and JournalFailed; answers FetchCall and ListCalls.
Publishes CallJournaled, JournalFailed.
Owns ``journal.calls`` and ``journal.entries``.
"""
