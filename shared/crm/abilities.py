"""What a connector can do, in words that tables and lists show. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from shared.crm.form.manifest import Manifest


def abilities(manifest: Manifest) -> Sequence[str]:
    """What it can do, in the order in which the tables show it."""
    creates = any(contact.create for contact in manifest.contacts.values())
    changes = manifest.changes
    telephony = manifest.telephony
    status = telephony.status if telephony else None
    return [
        word
        for word, can in (
            ("search", True),
            ("users", manifest.users),
            ("manager", manifest.manager),
            ("create", creates),
            ("journal", manifest.journal),
            ("update", manifest.journal and manifest.journal.update),
            ("hook", changes and changes.hook),
            ("poll", changes and changes.poll),
            ("module", telephony and telephony.modules),
            ("cards", telephony and telephony.cards),
            ("clicks", telephony and telephony.click),
            ("status", status),
            ("new page", any(one.new_page_url for one in manifest.contacts.values())),
        )
        if can
    ]
