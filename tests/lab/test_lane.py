"""What the lane says where there is no Asterisk, and what getting one leaves behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab.asterisk.server import HERE, missing
from tests.lab.conftest import refuse


def get(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HERE / "get-asterisk.sh"), str(folder)],
        env={**os.environ, **environment},  # noqa: TID251  a child's
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_asterisk_that_cannot_be_had_leaves_its_reason_and_nothing_else(tmp_path: Path) -> None:
    """Nobody listens at that port."""
    found = get(tmp_path / "asterisk", MIRROR="http://127.0.0.1:9/debian")

    assert found.returncode == 1
    (left,) = (tmp_path / "asterisk").iterdir()
    assert left.name == ".reason"
    assert left.read_text() == found.stderr
    assert found.stderr.startswith("no Asterisk: ")
    assert missing(tmp_path / "asterisk") == found.stderr.strip()


def test_a_folder_that_was_not_made_by_it_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear all")

    assert get(tmp_path).returncode == 2
    assert [file.name for file in tmp_path.iterdir()] == ["letters.txt"]


def test_what_was_never_asked_for_is_said_to_be_missing(tmp_path: Path) -> None:
    assert missing(tmp_path) == "`make asterisk-lab` was not run"


def test_phones_are_missing_where_sipp_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ready").touch()
    monkeypatch.setenv("PATH", str(tmp_path))

    reason = missing(tmp_path)

    assert reason is not None
    assert "sip-tester" in reason


def test_without_an_asterisk_the_lane_fails_in_ci_and_is_skipped_elsewhere() -> None:
    with pytest.raises(pytest.fail.Exception, match="no mirror"):
        refuse("no mirror", ci="true")
    for elsewhere in ("", "false"):
        with pytest.raises(pytest.skip.Exception, match="no mirror"):
            refuse("no mirror", ci=elsewhere)
    refuse(None, ci="true")
