"""What an employee is doing, as a notification of the account says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contracts.agents import AgentStatus
from shared.errors import ContractError
from shared.pbx.statuses import StatusWords, own_word
from shared.pbx.uis.fields import Fields
from shared.pbx.uis.settings import STATUSES

#: Names under which a body may say the status; of the vendor's there is no published list.
_STATUS = (
    "employee_status",
    "status",
    "employee_status_mnemonic",
    "status_mnemonic",
    "employee_status_name",
    "status_name",
)
_FLAG = "calls_available"
#: The account's own word for "nobody said".
_UNKNOWN = "unknown"
#: Of a status that neither the vendor nor the site knows: one of the account's own.
_AWAY = AgentStatus.BREAK


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffWords:
    """
    *statuses*: our status → the account's, where it is another. *by_flag*: the older flag
    ``calls_available`` is set in place of the status, so that it is what counts.
    """

    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)
    by_flag: bool = False

    @property
    def _words(self) -> StatusWords:
        return StatusWords(preset=STATUSES, site=self.statuses)

    def set_by(self, status: AgentStatus, own: str | None) -> tuple[str, str | bool]:
        """The parameter of ``update.employees``, and its value."""
        if self.by_flag:
            return _FLAG, status is AgentStatus.FREE
        return "status", self._words.word(status, own) or STATUSES[status]

    def heard_as(self, status: AgentStatus, own: str | None) -> AgentStatus:
        name, value = self.set_by(status, own)
        found = self.told(Fields({name: value}))
        return status if found is None else found[0]

    def told(self, fields: Fields) -> tuple[AgentStatus, str | None] | None:
        """
        Ours, and the account's word. None: it says that it does not know. Raises: ContractError
        where no status is said.
        """
        word, takes_calls = fields.text(*_STATUS), fields.flag(_FLAG)
        if takes_calls is not None and (self.by_flag or word is None):
            return (AgentStatus.FREE if takes_calls else AgentStatus.BUSY), None
        if word is None:
            raise ContractError(
                'the notification says no status: write "employee_status": {{…}} into its body, '
                "with the placeholder that the account has for the employee's status"
            )
        if word.lower() == _UNKNOWN:
            return None
        return self._words.status(word) or _AWAY, own_word(word)
