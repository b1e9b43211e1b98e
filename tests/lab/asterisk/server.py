"""One PBX of the Asterisk that ``make asterisk-lab`` brings: started, asked, stopped."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from shared.testing.servers import LocalServer, NoServer
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.priority import go_first

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
#: Where ``make asterisk-lab`` puts it.
INSTALLED = CHECKOUT / ".venv" / "asterisk"
SAMPLES = CHECKOUT / "deploy" / "asterisk"
SECRET = "lab-ami-secret"
AMI_PORT, SIP_PORT = 5038, 5060
#: Phones that have an address; 199 has none.
PHONES = range(101, 151)
#: Asterisk asks for them all, and they hold nothing that the lab needs.
_EMPTY = "acl ccss cdr cel cli features http pjproject queuerules stasis udptl"


def missing(folder: Path = INSTALLED) -> str | None:
    """Why no call can be placed on this machine, and what to do; None where one can."""
    reason = folder / ".reason"
    if not (folder / ".ready").exists():
        return reason.read_text().strip() if reason.exists() else "`make asterisk-lab` was not run"
    if shutil.which("sipp") is None:
        return "sipp is missing: run `make asterisk-lab` as root, or install the package sip-tester"
    return None


class Asterisk(LocalServer):
    """*settings* fill the placeholders of ``conf/`` that concern callmesh: AGI, HTTP, KEY …"""

    name = "asterisk"

    def __init__(self, network: LoopbackNetwork, settings: Mapping[str, str]) -> None:
        if reason := missing():
            raise NoServer(reason)
        super().__init__()
        self._network = network
        self._write_configuration(settings)

    @property
    def url(self) -> str:
        return f"sip:{self._network.pbx}:{SIP_PORT}"

    def ask(self, command: str) -> str:
        """A command of Asterisk's own console. Raises: CalledProcessError."""
        done = subprocess.run(
            [*self._command(), "-C", str(self.folder / "etc" / "asterisk.conf"), "-rx", command],
            capture_output=True,
            text=True,
            timeout=self._start_seconds,
            check=True,
        )
        return done.stdout

    @property
    def managers(self) -> int:
        """AMI sessions that are logged in."""
        return self.ask("manager show connected").count("callmesh")

    @property
    def talking(self) -> int:
        """Channels that are in a bridge."""
        return sum(bool(channel.split("!")[-2]) for channel in self._channels)

    @property
    def ringing(self) -> int:
        return sum(channel.split("!")[4] == "Ringing" for channel in self._channels)

    @property
    def up(self) -> int:
        """Channels that were answered."""
        return sum(channel.split("!")[4] == "Up" for channel in self._channels)

    @property
    def _channels(self) -> list[str]:
        """Name, context, extension, priority, state, …, bridge, unique id; between ``!``."""
        return self.ask("core show channels concise").splitlines()

    @property
    def log(self) -> str:
        return (self.folder / "log" / "full").read_text(errors="replace")

    def _launch(self) -> None:
        configuration = str(self.folder / "etc" / "asterisk.conf")
        self.process = self._run([*self._command(), "-f", "-C", configuration], {"LANG": "C.UTF-8"})
        go_first(self.process.pid)

    def _serves(self) -> bool:
        try:
            return "fully booted" in self.ask("core waitfullybooted")
        except subprocess.CalledProcessError:
            return False

    def _command(self) -> list[str]:
        """By its own loader and libraries, so that nothing of it needs to be installed."""
        (libraries,) = INSTALLED.glob("usr/lib/*-linux-gnu")
        loader = next(
            file
            for folder in (INSTALLED / "usr" / "lib64", libraries)
            for file in folder.glob("ld-linux*.so.*")
        )
        path = f"{libraries}:{INSTALLED / 'usr' / 'lib'}"
        asterisk = INSTALLED / "usr" / "sbin" / "asterisk"
        return [str(loader), "--library-path", path, str(asterisk)]

    def _write_configuration(self, settings: Mapping[str, str]) -> None:
        for folder in (
            "etc",
            "lib/keys",
            "run",
            "log",
            "spool/monitor",
            "spool/voicemail",
            "spool/tmp",
        ):
            (self.folder / folder).mkdir(parents=True)
        etc = self.folder / "etc"
        for name in _EMPTY.split():
            (etc / f"{name}.conf").touch()
        (modules,) = INSTALLED.glob("usr/lib/*/asterisk/modules")
        values = {
            "ROOT": str(INSTALLED),
            "MODULES": str(modules),
            "HOME": str(self.folder),
            "PBX": self._network.pbx,
            "TRUNK": self._network.trunk,
            "OUTSIDE": self._network.outside,
            "SAMPLE": str(SAMPLES / "extensions.conf"),
            **settings,
        }
        for file in (HERE / "conf").glob("*.conf"):
            text = file.read_text()
            for name, value in values.items():
                text = text.replace(f"@{name}@", value)
            (etc / file.name).write_text(text)
        with (etc / "pjsip.conf").open("a") as pjsip:
            pjsip.writelines(self._phones(PHONES))
        (etc / "manager.conf").write_text(self._manager())

    def _phones(self, numbers: Iterable[int]) -> Iterable[str]:
        for number in numbers:
            address = f"{self._network.host(number)}:{SIP_PORT}"
            yield (
                f"[{number}](phone)\naors = {number}\nmailboxes = {number}@default\n"
                f"callerid = Agent {number} <{number}>\n"
                f"[{number}]\ntype = aor\ncontact = sip:{number}@{address}\n\n"
            )

    def _manager(self) -> str:
        """The sample, with its rights, at our address and with our secret."""
        text = (SAMPLES / "manager.conf").read_text()
        for old, new in (
            ("\nbindaddr = 127.0.0.1\n", f"\nbindaddr = {self._network.pbx}\n"),
            ("\nsecret = CHANGE-THIS\n", f"\nsecret = {SECRET}\n"),
        ):
            if text.count(old) != 1:
                raise ValueError(f"the sample manager.conf has no single line {old.strip()!r}")
            text = text.replace(old, new)
        return text
