"""
ingest: what PBXs really send → call events.

Consumes HookReceived, and reads the connections of PBXs that tell their events by themselves;
answers ListLinks. What PBXs publish onto the broker by themselves it makes HookReceived of.
Publishes HookReceived, CallStarted, CallQueued, CallRinging, CallAnswered, CallHeld, CallResumed,
CallTransferred, LegEnded, CallEnded, RecordingReady, CallSummarised, AgentStatusChanged, PbxResynced.
Owns ``ingest.links`` (state of the PBX connections), ``ingest.raw`` (what came in the last day),
``ingest.reports`` (calls of which a PBX will tell more) and ``ingest.spool``.
"""
