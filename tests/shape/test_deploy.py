"""What an operator starts from agrees with the code: containers, secrets, samples."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr
from typer.main import get_command

from services.catalog import CATALOG, settings_classes
from services.cli.main import app
from shared.contracts.routing import DestinationKind
from shared.moments import to_duration
from shared.net.guard import AddressGuard, hosts
from shared.pbx.asterisk.tracker import CLICK_VARIABLE
from shared.runtime.settings import (
    SECRETS_DIR,
    AmqpSettings,
    MeshSettings,
    MongoSettings,
    Settings,
)
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN
from shared.sandbox.pbx import SECRET, USERNAME
from shared.secrets import SecretBox, new_key
from shared.site.file import Surroundings, WholeSite, read_site_file
from shared.site.models import Site
from shared.site.parts import Sealing
from shared.site.pbx import AsteriskPbx, Pbx

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MESH = ROOT / "docker-compose.yml"
EMBEDDED = DEPLOY / "compose" / "embedded.yaml"
DEV = DEPLOY / "compose" / "dev.yaml"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SCRIPT = DEPLOY / "scripts" / "make-secrets.sh"
MAKES = {
    "callmesh_amqp_url",
    "callmesh_mongo_url",
    "callmesh_secret_keys",
    "mongodb_root_password",
    "rabbitmq_user",
}


def compose(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


mesh, embedded, dev = compose(MESH), compose(EMBEDDED), compose(DEV)
#: Containers as they run; those of dev.yaml that only add to the mesh's are no whole ones.
WHOLE = {
    **mesh["services"],
    **embedded["services"],
    **{name: one for name, one in dev["services"].items() if name not in mesh["services"]},
}
SERVERS = ("rabbitmq", "mongodb")
#: It does its work and ends.
ENDS = "site"


# -- compose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [MESH, EMBEDDED, DEV], ids=lambda file: file.name)
def test_a_compose_file_is_one(file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_service_has_a_container_that_runs_it(name: str) -> None:
    assert mesh["services"][name]["command"] == ["run", name]


def test_all_services_are_one_image() -> None:
    assert len({json.dumps(mesh["services"][name]["build"]) for name in CATALOG}) == 1
    assert {mesh["services"][name]["image"] for name in CATALOG} == {
        embedded["services"]["callmesh"]["image"]
    }


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_service_waits_for_its_servers_to_be_healthy(name: str) -> None:
    wanted = {server: {"condition": "service_healthy"} for server in SERVERS}
    assert mesh["services"][name]["depends_on"] == wanted


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_service_is_scaled_by_a_variable(name: str) -> None:
    assert mesh["services"][name]["deploy"]["replicas"] == f"${{{name.upper()}_REPLICAS:-1}}"


@pytest.mark.parametrize("name", [*CATALOG, "callmesh"])
def test_a_container_is_not_killed_while_it_drains(name: str) -> None:
    container = WHOLE[name]
    grace = to_duration(container["stop_grace_period"])
    drain = to_duration(container["environment"]["CALLMESH_DRAIN"])
    assert isinstance(grace, timedelta)
    # Requests and handlers have it one after the other.
    assert grace > 2 * drain


@pytest.mark.parametrize("name", [name for name in WHOLE if name != ENDS])
def test_a_container_comes_back_and_says_how_it_is(name: str) -> None:
    assert WHOLE[name]["restart"] == "unless-stopped"
    check = WHOLE[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert to_duration(check["timeout"]) < to_duration(check["interval"])


@pytest.mark.parametrize("name", list(WHOLE))
def test_a_container_has_limits(name: str) -> None:
    assert {"cpus", "memory", "pids"} <= set(WHOLE[name]["deploy"]["resources"]["limits"])


@pytest.mark.parametrize("name", list(WHOLE))
def test_a_container_may_do_nothing_that_it_need_not(name: str) -> None:
    assert WHOLE[name]["cap_drop"] == ["ALL"]
    assert WHOLE[name]["security_opt"] == ["no-new-privileges:true"]
    assert WHOLE[name]["tmpfs"]
    # Compose copies the site into its container: it mounts none that stands in a compose file.
    assert WHOLE[name]["read_only"] is (name != ENDS)


@pytest.mark.parametrize("name", SERVERS)
def test_broker_and_database_are_inside(name: str) -> None:
    container = mesh["services"][name]
    assert container["networks"] == ["back"]
    assert mesh["networks"]["back"] == {"internal": True}
    assert "ports" not in container
    assert container["user"] == name
    # Their data is found again by it.
    assert container["hostname"] == name


def test_only_who_is_asked_from_outside_publishes_ports() -> None:
    assert {n for n, one in mesh["services"].items() if "ports" in one} == {"gateway", "routing"}


@pytest.mark.parametrize("file", [MESH, EMBEDDED, DEV], ids=lambda file: file.name)
def test_ports_are_published_on_this_machine_alone_by_default(file: Path) -> None:
    for name, one in compose(file)["services"].items():
        for port in one.get("ports", ()):
            bare = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port)
            assert bare.startswith("127.0.0.1:"), f"{name}: {port}"


@pytest.mark.parametrize("name", [n for n in WHOLE if n not in SERVERS])
def test_a_containers_command_is_one_that_callmesh_can_read(name: str) -> None:
    first, *rest = WHOLE[name]["command"]
    commands = getattr(get_command(app), "commands")  # noqa: B009  click's type hides it
    commands[first].make_context(first, rest)


def test_the_health_check_is_the_images_everywhere() -> None:
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found
    of_image = ["CMD", *json.loads(found[1])]
    for name in (*CATALOG, "callmesh"):
        assert WHOLE[name]["healthcheck"]["test"] == of_image, name


# -- settings and secrets --------------------------------------------------------------------------


def known() -> dict[str, type[Settings]]:
    return {name: cls for cls in settings_classes() for name in cls.variables()}


def secret_settings() -> set[str]:
    return {
        cls.variable(name)
        for cls in settings_classes()
        for name, field in cls.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }


@pytest.mark.parametrize(
    "file", [MESH, EMBEDDED, DEV, DEPLOY / "Dockerfile"], ids=lambda file: file.name
)
def test_every_variable_of_ours_is_a_setting(file: Path) -> None:
    named = set(re.findall(r"CALLMESH_[A-Z_]*[A-Z]", file.read_text()))
    assert named <= {*known(), SECRETS_DIR}


@pytest.mark.parametrize("name", list(WHOLE))
def test_no_secret_is_in_an_environment(name: str) -> None:
    environment = WHOLE[name].get("environment", {})
    assert not secret_settings() & set(environment)
    for value in environment.values():
        assert "://" not in value


def test_secrets_are_files_that_the_script_makes() -> None:
    wanted = {name: {"file": f"./deploy/secrets/{name}.txt"} for name in MAKES}
    assert mesh["secrets"] == wanted


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_service_gets_its_secrets_under_the_names_of_their_settings(name: str) -> None:
    container = mesh["services"][name]
    assert {secret.upper() for secret in container["secrets"]} == secret_settings()
    assert container["environment"][SECRETS_DIR] == "/run/secrets"


def test_git_and_the_images_build_see_no_secret() -> None:
    made = DEPLOY / "secrets" / "callmesh_secret_keys.txt"
    ignored = subprocess.run(["git", "check-ignore", "--quiet", str(made)], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def make_secrets(folder: Path) -> dict[str, str]:
    subprocess.run(["sh", str(SCRIPT), str(folder)], capture_output=True, check=True)
    return {file.stem: file.read_text() for file in folder.glob("*.txt")}


def test_secrets_are_made_once(tmp_path: Path) -> None:
    first = make_secrets(tmp_path / "secrets")
    assert set(first) == MAKES
    assert make_secrets(tmp_path / "secrets") == first


def test_no_two_installations_have_a_secret_in_common(tmp_path: Path) -> None:
    one, other = make_secrets(tmp_path / "one"), make_secrets(tmp_path / "other")
    assert not set(one.values()) & set(other.values())


def test_only_the_owner_comes_to_the_secrets_and_every_container_may_read_its_own(
    tmp_path: Path,
) -> None:
    """A container sees the owner and mode that a file has outside, and is never its owner."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    make_secrets(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.glob("*.txt")} == {0o444}


def test_what_is_lost_is_made_again_and_the_rest_stays(tmp_path: Path) -> None:
    first = make_secrets(tmp_path)
    (tmp_path / "rabbitmq_user.txt").unlink()
    (tmp_path / "mongodb_root_password.txt").unlink()
    again = make_secrets(tmp_path)
    assert again["callmesh_secret_keys"] == first["callmesh_secret_keys"]
    assert again["mongodb_root_password"] != first["mongodb_root_password"]
    # It follows from the URL.
    assert again["rabbitmq_user"] == first["rabbitmq_user"]


def test_an_address_of_ones_own_stays(tmp_path: Path) -> None:
    theirs = "amqps://acme:word@broker.acme.example/mesh\n"
    (tmp_path / "callmesh_amqp_url.txt").write_text(theirs)
    made = make_secrets(tmp_path)
    assert made["callmesh_amqp_url"] == theirs
    assert "word" not in made["rabbitmq_user"]


def test_the_brokers_user_is_the_one_of_the_address(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    user = dict(line.split(" = ") for line in made["rabbitmq_user"].splitlines())
    address = f"amqp://{user['default_user']}:{user['default_pass']}@rabbitmq:5672/\n"
    assert made["callmesh_amqp_url"] == address


def test_callmesh_reads_the_secrets_as_compose_mounts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_secrets(tmp_path / "secrets")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in mesh["services"]["gateway"]["secrets"]:
        file = mesh["secrets"][name]["file"].removeprefix("./deploy/secrets/")
        shutil.copy(tmp_path / "secrets" / file, mounted / name)
    monkeypatch.setenv(SECRETS_DIR, str(mounted))
    for name in secret_settings():
        monkeypatch.delenv(name, raising=False)

    keys = MeshSettings.read().secret_keys

    assert keys is not None
    box = SecretBox([keys])
    assert box.open(box.seal(SecretStr("x"))).get_secret_value() == "x"
    amqp, mongo = AmqpSettings.read().url, MongoSettings.read().url
    assert amqp.get_secret_value() == made["callmesh_amqp_url"].strip()
    assert mongo.get_secret_value() == made["callmesh_mongo_url"].strip()


# -- the image -------------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    text = text.replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(name)]


def images() -> list[str]:
    of_compose = [one["image"] for one in WHOLE.values()]
    return [*(line.partition(" AS ")[0] for line in instructions("FROM")), *of_compose]


@pytest.mark.parametrize("image", sorted(set(images())))
def test_an_image_has_a_version_and_no_registry(image: str) -> None:
    bare = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", image)
    name, _, tag = bare.partition(":")
    assert re.search(r"\d", tag)
    assert "/" not in name


def test_the_image_has_the_projects_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in instructions("ARG")
    assert mesh["services"]["gateway"]["image"] == f"callmesh:${{TAG:-{version}}}"


def test_nothing_is_installed_that_was_not_locked() -> None:
    """Whatever may be downloaded is checked by its hash; what has none comes from no index."""
    installs = [
        line for line in instructions("RUN") if re.search(r"pip\b.* (install|wheel)\b", line)
    ]
    assert len(installs) >= 3
    for line in installs:
        assert "--require-hashes" in line or "--no-index --no-deps" in line, line


def test_the_image_runs_as_nobody_in_particular() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_the_image_is_callmesh_and_stops_by_the_signal_it_knows() -> None:
    assert [json.loads(line) for line in instructions("ENTRYPOINT")] == [["callmesh"]]
    assert [json.loads(line) for line in instructions("CMD")] == [["up"]]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("VOLUME") == ["/var/lib/callmesh"]


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    let_in = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert copied == let_in


# -- samples ---------------------------------------------------------------------------------------


def example(tmp_path: Path) -> WholeSite:
    file = DEPLOY / "site.example.yaml"
    text = re.sub(r"^\s*#.*$", "", file.read_text(), flags=re.MULTILINE)
    environment = dict.fromkeys(re.findall(r"\{env: (\w+)\}", text), "a secret")
    assert environment
    assert not [name for name in environment if name.startswith("CALLMESH_")]
    for name in re.findall(r"\{file: ([^}]+)\}", text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a secret\n")
    sealing = Sealing(SecretBox([new_key()]), environment, tmp_path)
    (site,) = read_site_file(file.read_text(), source=file.name, sealing=sealing)
    return site


@pytest.mark.parametrize(
    "kind",
    [get_args(part.model_fields["kind"].annotation)[0] for part in get_args(get_args(Pbx)[0])],
)
def test_the_example_site_shows_every_kind_of_pbx(kind: str) -> None:
    """Commented where it would try to connect."""
    assert f"kind: {kind}\n" in (DEPLOY / "site.example.yaml").read_text()


def asterisk_of(site: Site) -> AsteriskPbx:
    return next(pbx for pbx in site.pbx if isinstance(pbx, AsteriskPbx))


def test_the_example_site_can_be_applied_as_it_is(tmp_path: Path) -> None:
    site = example(tmp_path)
    assert {pbx.kind for pbx in site.pbx} == {"asterisk", "generic"}
    assert [crm.template for crm in site.crm] == ["zoho"]
    assert [rule.name for rule in site.rules] == [
        "main-number",
        "credit-line",
        "sales-line",
        "known-callers",
        "order-status",
    ]


def test_the_sample_dialplan_asks_as_the_example_site_is_called(tmp_path: Path) -> None:
    site = example(tmp_path)
    pbx = asterisk_of(site)
    dialplan = (DEPLOY / "asterisk" / "extensions.conf").read_text()
    assert re.search(
        rf"^CM_AGI = agi://[^/]+:4573/route/{site.tenant}/{pbx.name}$", dialplan, re.MULTILINE
    )
    assert f"\nCM_PBX = {pbx.name}\n" in dialplan
    assert f"\n[{pbx.outbound_context}]\n" in dialplan
    (trunk,) = pbx.trunks
    assert f"\nCM_TRUNK = {trunk}\n" in dialplan


def test_the_sample_dialplan_waits_longer_than_a_rule_may_take(tmp_path: Path) -> None:
    dialplan = (DEPLOY / "asterisk" / "extensions.conf").read_text()
    found = re.search(r"^CM_WAIT = ([\d.]+)$", dialplan, re.MULTILINE)
    assert found
    wait = timedelta(seconds=float(found[1]))
    assert all(rule.within < wait for rule in example(tmp_path).rules)


@pytest.mark.parametrize("kind", list(DestinationKind))
def test_the_sample_dialplan_knows_every_kind_of_destination(kind: DestinationKind) -> None:
    assert f"\n[crm-to-{kind}]\n" in (DEPLOY / "asterisk" / "extensions.conf").read_text()


def test_the_sample_manager_user_is_the_example_sites(tmp_path: Path) -> None:
    manager = (DEPLOY / "asterisk" / "manager.conf").read_text()
    assert f"\n[{asterisk_of(example(tmp_path)).username}]\n" in manager
    assert f"\nchannelvars = {CLICK_VARIABLE},MIXMONITOR_FILENAME,CRM_DID\n" in manager


def test_the_site_of_the_development_containers_opens_the_sandbox_and_nothing_else(
    tmp_path: Path,
) -> None:
    box = SecretBox([new_key()])
    text = dev["configs"]["site"]["content"]
    plain = hosts(dev["x-dev"]["environment"]["CALLMESH_NET_PLAIN"], setting="dev.yaml")
    (site,) = read_site_file(
        text,
        source=DEV.name,
        sealing=Sealing(box, {}, tmp_path),
        around=Surroundings(may_be_plain=AddressGuard(plain=plain).allows),
    )
    pbx = asterisk_of(site)
    assert (pbx.username, box.open(pbx.secret).get_secret_value()) == (USERNAME, SECRET)
    opened = {
        name: box.open(sealed).get_secret_value()
        for name, sealed in site.crm[0].credentials.items()
    }
    assert opened == {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
    }
    assert f"/route/{site.tenant}/{pbx.name}" in dev["services"]["sandbox-pbx"]["command"][-1]
