"""Who is in the sandbox CRM: the accounts of PBXware's routing example, and the demo's callers."""

from __future__ import annotations

from typing import Any

#: Fields of each module, as an organisation without own fields has them, and one own: Tier.
MODULE_FIELDS: dict[str, tuple[str, ...]] = {
    "Accounts": ("id", "Account_Name", "Phone", "Owner", "Tier", "Website"),
    "Contacts": (
        *("id", "First_Name", "Last_Name", "Full_Name", "Email", "Account_Name", "Owner"),
        *("Phone", "Home_Phone", "Mobile", "Other_Phone", "Tier"),
    ),
    "Leads": (
        *("id", "First_Name", "Last_Name", "Full_Name", "Email", "Company", "Owner"),
        *("Phone", "Mobile"),
    ),
    "Calls": (
        *("id", "Subject", "Call_Type", "Call_Start_Time", "Call_Duration", "Description"),
        *("Who_Id", "What_Id", "$se_module", "Owner", "Created_Time"),
    ),
}

USERS: tuple[dict[str, Any], ...] = (
    {"id": "829914000000121001", "full_name": "Anna Agent", "email": "anna@sandbox.example"},
    {"id": "829914000000121002", "full_name": "Ben Agent", "email": "ben@sandbox.example"},
)
_ANNA = {"id": USERS[0]["id"], "name": USERS[0]["full_name"]}
_BEN = {"id": USERS[1]["id"], "name": USERS[1]["full_name"]}


def _person(number: int, first: str, last: str, phone: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"829914000000{number}",
        "First_Name": first,
        "Last_Name": last,
        "Full_Name": f"{first} {last}",
        "Phone": phone,
        **more,
    }


def _account(number: int, name: str, phone: str, **more: Any) -> dict[str, Any]:
    return {"id": f"829914000000{number}", "Account_Name": name, "Phone": phone, **more}


#: Numbers are spelt as people type them: that is what a search has to cope with.
RECORDS: dict[str, tuple[dict[str, Any], ...]] = {
    "Accounts": (
        _account(489099, "testrouting1", "120-288-8888", Owner=_ANNA),
        _account(489175, "testrouting2", "120 266 6666", Owner=_BEN),
    ),
    "Contacts": (
        _person(
            *(600001, "Jane", "Doe", "+44 7700 900123"),
            Email="jane@acme.example",
            Account_Name={"name": "ACME Ltd", "id": "829914000000700001"},
            Owner=_ANNA,
            Tier="SILVER",
        ),
        _person(
            *(600002, "Grace", "Gold", "07700 900145"),
            Mobile="+447700900146",
            Account_Name={"name": "Gold & Sons", "id": "829914000000700002"},
            Owner=_BEN,
            Tier="GOLD",
        ),
        _person(600003, "Bob", "Busy", "447700900167", Owner=_ANNA, Tier="BRONZE"),
        _person(600004, "Mia", "Missed", "07700 900168", Owner=_ANNA, Tier="SILVER"),
    ),
    "Leads": (
        _person(506001, "Lee", "Lead", "1202111111", Company="Leadless Inc", Owner=_BEN),
        _person(506002, "Nora", "New", "+447700900189", Company="New Ventures", Owner=_BEN),
    ),
}
