"""
dialer: a click dials.

Consumes DialNumber, and CallRinging, CallAnswered, CallEnded of the calls it ordered; answers
FetchDial. Publishes DialStateChanged.
Owns ``dialer.dials``.
"""
