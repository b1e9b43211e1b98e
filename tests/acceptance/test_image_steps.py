"""
The steps of the image's build, read from the Dockerfile and run in a clean folder without an
engine: what they make is what a container would start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.testing.servers import free_port
from shared.testing.waiting import eventually

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
#: Folders of the image that the steps name; they lie below a temporary one here.
OURS = re.compile(r"(?<![\w.{}/])/(opt|src|var/lib/callmesh)(?=[/\s'\"]|$)")


@dataclass
class Stage:
    """The instructions of one stage; *environment* is what its ARG and ENV say."""

    instructions: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.instructions if found == name]


def stages() -> list[Stage]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "FROM":
            found.append(Stage())
        elif name in {"ARG", "ENV"}:
            pairs = (pair.partition("=") for pair in value.split())
            found[-1].environment |= {key: said for key, _, said in pairs}
        elif name:
            found[-1].instructions.append((name, value.strip()))
    return found


@dataclass(frozen=True)
class Image:
    """*top* is where its root lies."""

    top: Path
    stage: Stage

    def here(self, text: str) -> str:
        return OURS.sub(lambda found: f"{self.top}/{found[1]}", text)

    @property
    def environment(self) -> dict[str, str]:
        """What the image says, and nothing of this machine but where the system's programs are."""
        said = {name: self.here(value) for name, value in self.stage.environment.items()}
        return said | {"PATH": said["PATH"].replace("$PATH", os.defpath)}

    @property
    def command(self) -> list[str]:
        (entry,), (command,) = self.stage.values("ENTRYPOINT"), self.stage.values("CMD")
        return [*json.loads(entry), *json.loads(command)]

    @property
    def health(self) -> list[str]:
        (check,) = self.stage.values("HEALTHCHECK")
        found: list[str] = json.loads(check.partition(" CMD ")[2])
        return found

    def start(self, command: list[str], **more: str) -> subprocess.Popen[str]:
        environment = self.environment | more
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None
        # Inside the image; a program of this machine would prove nothing.
        assert Path(program).is_relative_to(self.top)
        return subprocess.Popen(
            [program, *command[1:]],
            env=environment,
            cwd=self.top / "var/lib/callmesh",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, **more: str) -> tuple[int, str]:
        process = self.start(list(command), **more)
        out, _ = process.communicate(timeout=120)
        return process.returncode, out


def checkout(folder: Path) -> None:
    """What git knows of, as it lies here."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def build(image: Image, stage: Stage, context: Path) -> None:
    """Carry a stage out as an engine would: COPY, RUN and WORKDIR, one after the other."""
    # pip's configuration of this machine reaches it; of callmesh and Python nothing does.
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  a child's
        if not name.startswith(("CALLMESH_", "PYTHON", "VIRTUAL_ENV"))
    }
    environment = inherited | stage.environment | {"PIP_QUIET": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    folder = image.top
    for name, value in stage.instructions:
        if name == "WORKDIR":
            folder = Path(image.here(value))
            folder.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = value.split()
            for source in sources:
                whole = (context / source).is_dir()
                where = folder / target if whole else folder / target / source
                (shutil.copytree if whole else shutil.copy)(context / source, where)
        elif name == "RUN":
            command = image.here(re.sub(r"--mount=\S+\s+", "", value))
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        else:
            raise AssertionError(f"this test cannot carry out {name}")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    first, second = stages()
    folder = tmp_path_factory.mktemp("image")
    made = Image(folder / "root", second)
    (made.top / "var/lib/callmesh").mkdir(parents=True)
    checkout(folder / "context")
    build(made, first, folder / "context")
    # The second stage takes nothing else of the first.
    (copied,) = second.values("COPY")
    assert copied == "--from=build /opt/callmesh /opt/callmesh"
    shutil.rmtree(made.top / "src")
    shutil.rmtree(made.top / "opt/tools")
    shutil.rmtree(made.top / "opt/dist")
    return made


def test_it_starts_and_has_the_version_of_the_project(image: Image) -> None:
    assert image.run("callmesh", "--version") == (0, f"{image.stage.environment['VERSION']}\n")


def test_it_has_what_runs_and_no_tools(image: Image) -> None:
    assert {"pip", "hatchling", "pytest", "mypy"}.isdisjoint(
        path.name for path in (image.top / "opt/callmesh/bin").iterdir()
    )


def test_it_takes_calls_through_the_whole_mesh(image: Image, tmp_path: Path) -> None:
    # Free ports: what else runs on this machine is no matter of the image.
    ports = {"CALLMESH_HTTP_PORT": "0", "CALLMESH_ROUTING_AGI_PORT": "0"}
    code, out = image.run("callmesh", "demo", "--folder", str(tmp_path), "--speed", "8", **ports)
    assert code == 0, out


async def test_its_command_becomes_healthy_and_ends_by_its_signal(image: Image) -> None:
    ops = {"CALLMESH_OPS_PORT": str(free_port())}
    own = {"CALLMESH_HTTP_PORT": "0", "CALLMESH_ROUTING_AGI_PORT": "0"}
    assert image.run(*image.health, **ops)[0] == 1
    started = image.start(image.command, **ops, **own)
    try:
        await eventually(lambda: image.run(*image.health, **ops)[0] == 0)
    finally:
        (name,) = image.stage.values("STOPSIGNAL")
        started.send_signal(signal.Signals[name])
        out, _ = started.communicate(timeout=120)
    assert started.returncode == 0, out


def test_it_writes_to_its_volume_alone(image: Image) -> None:
    """The container's own files are read-only: nothing may want to write there."""
    before = {path for path in image.top.rglob("*") if not path.is_relative_to(image.top / "var")}
    assert image.run("callmesh", "doctor")[0] == 1  # there is no tenant yet
    after = {path for path in image.top.rglob("*") if not path.is_relative_to(image.top / "var")}
    assert after == before
    assert (image.top / "var/lib/callmesh/mesh.db").is_file()
