"""
ingest: what PBXs really send → call events.

Consumes HookReceived, and reads the Manager Interfaces of the tenants' Asterisks.
Publishes CallStarted, CallQueued, CallRinging, CallAnswered, CallHeld, CallResumed,
CallTransferred, LegEnded, CallEnded, RecordingReady.
Owns ``ingest.links`` (state of the PBX connections) and ``ingest.spool``.
"""
