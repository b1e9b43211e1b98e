"""The demo tenant's site, as a site file would say it."""

from __future__ import annotations

import json
from pathlib import Path

from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN
from shared.sandbox.pbx import SECRET, USERNAME
from shared.sandbox.people import USERS

TENANT = "demo"
PBX = "sandbox"
CRM = "zoho"


def site_file(
    *,
    crm_url: str,
    ami_port: int,
    settle_s: float = 1,
    within_s: float = 1.5,
    monitor: Path | None = None,
) -> str:
    """
    A site file for a sandbox CRM at *crm_url* and a sandbox PBX on *ami_port*, which writes its
    recordings to *monitor*. *within_s* is the rule's budget, at most 10: a busy machine needs more
    of it than a caller has.
    """
    fetched = f"{{kind: files, folder: {json.dumps(str(monitor))}}}" if monitor else "null"
    return f"""\
version: 1
tenants:
  - tenant: {TENANT}
    title: Demo
    region: GB
    pbx:
      - name: {PBX}
        kind: asterisk
        host: 127.0.0.1
        port: {ami_port}
        username: {USERNAME}
        secret: {SECRET}
        trunks: [trunk]
        askers: [127.0.0.0/8]
        fetch_recordings: {fetched}
      - {{name: door, kind: generic}}
    crm:
      - name: {CRM}
        template: zoho
        parameters:
          api_url: {crm_url}
          accounts_url: {crm_url}
          web_url: {crm_url}
          organisation: "20105630807"
        credentials:
          client_id: {CLIENT_ID}
          client_secret: {CLIENT_SECRET}
          refresh_token: {REFRESH_TOKEN}
        modules: [Contacts, Leads, Accounts]
        journal: {{after: {settle_s}s}}
    agents:
      - {{extension: "101", name: {USERS[0]["full_name"]}, users: {{{CRM}: "{USERS[0]["id"]}"}}}}
      - {{extension: "102", name: {USERS[1]["full_name"]}, users: {{{CRM}: "{USERS[1]["id"]}"}}}}
    rules:
      - name: by-tier
        dids: ["442079460000"]
        crm: {CRM}
        modules: [Contacts]
        field: Tier
        within: {within_s}s
        rows:
          - {{operator: "=", value: GOLD, destination: "queue:support"}}
          - {{operator: "=", value: SILVER, destination: "extension:101"}}
          - {{operator: "=", value: BRONZE, destination: "extension:101"}}
        default: extension:102
"""
