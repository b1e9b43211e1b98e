"""
routing: where shall this call go?

Answers DecideRoute, FastAGI (``agi://host:4573/route/TENANT/PBX``) and HTTP (``/v1/route``, and in
each PBX's own form ``/v1/pbx/NAME/route``), in its own process: the broker is not on the way. Rules
can be tried without a call (``/v1/routes/explain``).
Consumes CallStarted, to ask for the caller at the first ring; AgentStatusChanged and
AgentStatusSettled, and live CallStarted, CallAnswered, CallTransferred, LegEnded, CallEnded,
PbxResynced, to know who is free; ContactChanged. Asks ListCalls, FetchCall. Publishes CallRouted.
Owns ``routing.decisions``, ``routing.agents`` and ``routing.spool``.
"""
