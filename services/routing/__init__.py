"""
routing: where shall this call go?

Answers DecideRoute, FastAGI (``agi://host:4573/route/TENANT/PBX``) and HTTP (``/v1/route``, and in
each PBX's own form ``/v1/pbx/NAME/route``), in its own process: the broker is not on the way. Consumes ContactChanged.
Publishes CallRouted.
Owns ``routing.decisions`` and ``routing.spool``.
"""
