"""What the audit log has not, by name: nothing is left out because somebody forgot it."""

from __future__ import annotations

from services.catalog import CATALOG, operations

READING = {"GET", "HEAD"}
#: What PBXs, CRMs and screens send all day: it is counted (``callmesh_hooks_total``), not noted.
TRAFFIC = {
    "take_hook",
    "take_pbx_hook",
    "take_crm_hook",
    "take_user_status_by_form",
    "mark_pop",
}
#: A question, whose words need a body.
QUESTIONS = {
    "ask_field_by_body",
    "ask_route_by_body",
    "ask_route_by_post",
    "check_crm_connection",
    "check_pbx",
    "count_calls",
    "explain_route",
    "explain_routes",
    "import_template",
    "issue_ticket",
    "lint_template",
    "search_calls",
}
#: By a method of reading, because a CRM can send nothing else.
CHANGES_BY_READING = {"take_click"}


def test_what_the_audit_log_leaves_out_is_named_here() -> None:
    left_out = {
        operation.operation_id
        for operation in operations()
        if operation.method not in READING and not operation.is_change
    }
    assert left_out == TRAFFIC | QUESTIONS


def test_what_changes_something_by_a_method_of_reading_is_named_here() -> None:
    found = {
        operation.operation_id
        for operation in operations()
        if operation.method in READING and operation.is_change
    }
    assert found == CHANGES_BY_READING


def test_only_the_service_that_keeps_the_log_changes_anything_by_http() -> None:
    """Another one that runs alone has no log."""
    for name, entry in CATALOG.items():
        changes = [one.operation_id for one in entry.operations if one.is_change]
        assert not changes or name == "gateway", changes
