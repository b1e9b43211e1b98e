"""Names from outside open nothing outside."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import NotFound, Unavailable
from shared.recordings.folder import open_in, within


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    monitor = tmp_path / "monitor"
    (monitor / "2026" / "11").mkdir(parents=True)
    (monitor / "a.wav").write_bytes(b"sound of a")
    (monitor / "2026" / "11" / "b.wav").write_bytes(b"sound of b")
    (tmp_path / "secret").write_bytes(b"nobody's business")
    return monitor


def heard(folder: Path, name: str) -> bytes:
    with open_in(folder, name) as file:
        return file.read()


@pytest.mark.parametrize("name", ["a.wav", "./a.wav", "{folder}/a.wav"])
def test_a_name_is_relative_or_absolute_and_inside(folder: Path, name: str) -> None:
    assert heard(folder, name.format(folder=folder)) == b"sound of a"


def test_folders_within_are_walked(folder: Path) -> None:
    assert heard(folder, "2026/11/b.wav") == b"sound of b"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "..",
        "../secret",
        "../../etc/passwd",
        "2026/../../secret",
        "/etc/passwd",
        "{folder}",
        "{folder}/../secret",
        "{folder}extra/a.wav",
        "2026",
        "nothing.wav",
        "a.wav/more",
        "a.wav\x00.mp3",
        "https://elsewhere.example/a.wav",
        "a" * 5000,
    ],
)
def test_what_is_elsewhere_or_nowhere_is_not_there_in_the_same_words(
    folder: Path, name: str
) -> None:
    with pytest.raises(NotFound, match="does not have this one"):
        open_in(folder, name.format(folder=folder))


def test_a_link_that_leaves_the_folder_is_refused_and_one_within_is_not(folder: Path) -> None:
    (folder / "out.wav").symlink_to(folder.parent / "secret")
    (folder / "up").symlink_to(folder.parent)
    (folder / "latest.wav").symlink_to("2026/11/b.wav")
    (folder / "round.wav").symlink_to("round.wav")
    for name in ("out.wav", "up/secret", "round.wav"):
        with pytest.raises(NotFound):
            open_in(folder, name)
    assert heard(folder, "latest.wav") == b"sound of b"


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to(folder)
    assert heard(tmp_path / "mounted", "a.wav") == b"sound of a"


@pytest.mark.timeout(10)
def test_a_named_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.wav")
    with pytest.raises(NotFound):
        open_in(folder, "pipe.wav")


def test_no_descriptor_is_left_open(folder: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    for name in ("a.wav", "2026/11/b.wav", "2026", "nothing/at/all", "../secret"):
        try:
            open_in(folder, name).close()
        except NotFound:
            continue
    assert opened() == before


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is it mounted here"):
        open_in(tmp_path / "nowhere", "a.wav")


@given(name=st.text(alphabet=st.sampled_from("./ab\x00-~:"), max_size=20))
def test_by_its_words_alone_no_name_leads_out(name: str) -> None:
    found = within(PurePosixPath("/a/b"), name)
    assert found is None or (found.parts and ".." not in found.parts and not found.is_absolute())
