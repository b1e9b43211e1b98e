"""
The screens of one process: who rings at whom, what is known of the caller, which card opens. Pure.

Events come in any order and more than once. A pop is keyed by call and extension: it opens when
the phone rings, learns the contact when the CRM has answered, and closes when another agent is
faster, the caller gives up or the call ends.

Each replica hears every event by itself, in an order of its own. What it tells has the same ids as
what the others tell, and for each leg of which one told that it rings all tell once that it is
closed: so a client may go from one to the other and drop what it has had.
"""

from services.gateway.domain.board import PopBoard
from services.gateway.domain.events import AgentEvent, AgentEventKind

__all__ = ["AgentEvent", "AgentEventKind", "PopBoard"]
