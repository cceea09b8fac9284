"""The kit's files in a real mosquitto over TLS: who may do what, and who may not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy.broker.kit import Kit, create_kit
from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import Connection, Message, open_connection
from edge.messaging.events import encode
from edge.messaging.local_broker import Mosquitto

pytestmark = pytest.mark.slow
NOT_AUTHORISED = 0x87
UP, DOWN = "earmark/v1/{}/up/sighting", "earmark/v1/{}/down/command"
REPO = "earmark/v1/barn-a/down/repo/metadata/timestamp.json"


class Client:
    """A connection with a certificate of the kit, and what it heard."""

    def __init__(self, url: str, folder: Path, client_id: str) -> None:
        self.heard: list[Message] = []
        options = BrokerOptions(
            url,
            ca_file=folder / "ca.crt",
            cert_file=folder / "client.crt",
            key_file=folder / "client.key",
        )
        self.connection: Connection = open_connection(
            options, client_id, on_message=self.heard.append
        )
        assert self.connection.protocol == 5

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int | None:
        """Return the reason code of a refusal, None when the broker took it."""
        ticket = self.connection.publish(topic, payload, retain=retain)
        while True:
            for ack in self.connection.turn(5.0):
                if ack.ticket == ticket:
                    return ack.failure

    def subscribe(self, *filters: str) -> None:
        for each in filters:
            self.connection.subscribe(each)

    def topics(self) -> list[str]:
        """What was heard so far."""
        return [message.topic for message in self.heard]


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    state = tmp_path / "state"
    state.mkdir()
    kit = create_kit(
        tmp_path / "kit",
        ["localhost", "127.0.0.1"],
        configuration_folder=str(tmp_path / "kit" / "broker"),
        state_folder=str(state),
    )
    for name in ("barn-a", "barn-b"):
        kit.issue(name, "device")
    kit.issue("alice", "operator")
    kit.issue("database", "ingest")
    kit.issue("house", "home-assistant")
    return kit


@pytest.fixture
def broker(kit: Kit, start_mosquitto: Callable[..., Mosquitto]) -> str:
    """The URL of a mosquitto with the kit's own configuration, on a free port."""
    return secure(start_mosquitto, kit).url.replace("mqtt://127.0.0.1", "mqtts://localhost")


def secure(start_mosquitto: Callable[..., Mosquitto], kit: Kit) -> Mosquitto:
    lines = (kit.folder / "broker" / "mosquitto.conf").read_text().splitlines()
    assert "listener 8883" in lines
    kept = [line for line in lines if line and not line.startswith(("#", "listener"))]
    return start_mosquitto(*kept, anonymous=False)


@pytest.fixture
def client(kit: Kit, broker: str) -> Iterator[Callable[..., Client]]:
    """Call with a name of the kit (and the client id to ask for): that client, connected."""
    with contextlib.ExitStack() as stack:

        def connect(name: str, client_id: str = "anything") -> Client:
            made = Client(broker, kit.folder / "clients" / name, client_id)
            stack.callback(made.connection.abandon)
            return made

        yield connect


def settle(listener: Client, speaker: Client, topic: str) -> None:
    """Let everything arrive that was published before: `topic` reaches the listener last."""
    last = b"last %d" % time.monotonic_ns()
    assert speaker.publish(topic, last) is None
    deadline = time.monotonic() + 10
    while not any(message.payload == last for message in listener.heard):
        assert time.monotonic() < deadline
        listener.connection.turn(0.1)


def test_a_device_publishes_as_itself_and_as_nobody_else(client):
    operator, device = client("alice"), client("barn-b")
    operator.subscribe("earmark/v1/#", "homeassistant/#")
    assert device.publish(UP.format("barn-a")) == NOT_AUTHORISED
    assert device.publish("earmark/v1/barn-a/up/state", retain=True) == NOT_AUTHORISED
    assert device.publish(DOWN.format("barn-b")) == NOT_AUTHORISED
    assert device.publish("earmark/v1/barn-b/down/ingest") == NOT_AUTHORISED
    assert device.publish("elsewhere") == NOT_AUTHORISED
    settle(operator, device, UP.format("barn-b"))
    assert operator.topics() == [UP.format("barn-b")]


def test_a_device_hears_its_own_commands_only(client):
    first, second, operator = client("barn-a"), client("barn-b"), client("alice")
    second.subscribe("earmark/v1/+/down/#", "earmark/v1/#", "#")
    first.subscribe("earmark/v1/barn-a/down/#")
    assert operator.publish(DOWN.format("barn-a")) is None
    settle(first, operator, DOWN.format("barn-a"))
    settle(second, operator, DOWN.format("barn-b"))
    assert set(first.topics()) == {DOWN.format("barn-a")}
    assert set(second.topics()) == {DOWN.format("barn-b")}


def test_a_device_sends_no_commands(client):
    first, second, operator = client("barn-a"), client("barn-b"), client("alice")
    first.subscribe("earmark/v1/barn-a/down/#")
    for topic in (DOWN.format("barn-a"), "earmark/v1/barn-a/down/hint", REPO):
        assert second.publish(topic) == NOT_AUTHORISED
    settle(first, operator, DOWN.format("barn-a"))
    assert len(first.heard) == 1


def test_nobody_takes_the_client_id_of_another(client):
    first = client("barn-a", "barn-a")
    first.subscribe("earmark/v1/barn-a/down/#")
    client("barn-b", "barn-a")
    operator = client("alice", "barn-a")
    # Still there: the others were given their own names.
    settle(first, operator, DOWN.format("barn-a"))
    assert first.publish(UP.format("barn-a")) is None


def test_operators_and_ingest_stay_within_their_roles(client):
    device, operator, ingest = client("barn-a"), client("alice"), client("database")
    device.subscribe("earmark/v1/barn-a/down/#")
    assert operator.publish(UP.format("barn-a")) == NOT_AUTHORISED
    assert operator.publish(UP.format("alice")) == NOT_AUTHORISED
    assert operator.publish("earmark/v1/barn-a/down/ingest") == NOT_AUTHORISED
    assert operator.publish("earmark/v1/barn-a/down/hint", retain=True) is None
    assert operator.publish(REPO, retain=True) is None
    assert ingest.publish(REPO) == NOT_AUTHORISED
    assert ingest.publish(DOWN.format("barn-a")) == NOT_AUTHORISED
    assert ingest.publish(UP.format("database")) == NOT_AUTHORISED
    settle(device, ingest, "earmark/v1/barn-a/down/ingest")
    assert sorted(device.topics()) == [
        "earmark/v1/barn-a/down/hint",
        "earmark/v1/barn-a/down/ingest",
        REPO,
    ]


def test_home_assistant_reads_and_devices_introduce_themselves(client):
    device, house = client("barn-a"), client("house")
    house.subscribe("homeassistant/#", "earmark/v1/+/up/#")
    device.subscribe("homeassistant/status")
    assert house.publish(DOWN.format("barn-a")) == NOT_AUTHORISED
    assert house.publish("homeassistant/device/barn-a/config") == NOT_AUTHORISED
    assert device.publish("homeassistant/device/barn-b/config") == NOT_AUTHORISED
    assert device.publish("homeassistant/status") == NOT_AUTHORISED
    assert device.publish("homeassistant/device/barn-a/config", retain=True) is None
    settle(device, house, "homeassistant/status")
    settle(house, device, UP.format("barn-a"))
    assert set(house.topics()) == {
        "homeassistant/device/barn-a/config",
        "homeassistant/status",
        UP.format("barn-a"),
    }


def refused(url: str, ca: Path, certificate: Path | None, key: Path | None) -> bool:
    """Whether a client with this certificate gets no CONNACK; TLS 1.3 refuses after connecting."""
    options = BrokerOptions(url, ca_file=ca, cert_file=certificate, key_file=key)
    try:
        connection = open_connection(options, "x")
    except (OSError, BrokerError):
        return True
    connection.abandon()
    return False


def test_expired_and_foreign_certificates_and_none_are_refused(kit, broker, tmp_path):
    ca = kit.folder / "broker" / "ca.crt"
    good = kit.folder / "clients" / "barn-a"
    past = Kit(kit.folder, lambda: datetime.now(UTC) - timedelta(days=30))
    expired = past.issue("barn-old", "device", days=20)
    foreign = create_kit(tmp_path / "other", ["localhost"]).issue("barn-a", "device")
    assert not refused(broker, ca, good / "client.crt", good / "client.key")
    assert refused(broker, ca, None, None)
    for folder in (expired, foreign):
        assert refused(broker, ca, folder / "client.crt", folder / "client.key")
    # The broker's own certificate is not a client's.
    own = kit.folder / "broker"
    assert refused(broker, ca, own / "server.crt", own / "server.key")
    # And a device does not talk to a broker of another authority.
    assert refused(broker, foreign / "ca.crt", good / "client.crt", good / "client.key")


def test_a_revoked_certificate_is_refused_after_a_restart(kit, start_mosquitto):
    mosquitto = secure(start_mosquitto, kit)
    url = mosquitto.url.replace("mqtt://127.0.0.1", "mqtts://localhost")
    ca, folder = kit.folder / "broker" / "ca.crt", kit.folder / "clients"
    kit.revoke("barn-b")
    mosquitto.stop()
    mosquitto.start()
    bad, good = folder / "barn-b", folder / "barn-a"
    with pytest.raises(BrokerError, match=r"barn-b/client.crt expired, revoked"):
        Client(url, bad, "barn-b")
    assert not refused(url, ca, good / "client.crt", good / "client.key")


def test_a_reload_tells_the_broker_of_new_clients_and_of_its_renewed_certificate(
    kit, start_mosquitto, wait_until
):
    mosquitto = secure(start_mosquitto, kit)
    url = mosquitto.url.replace("mqtt://127.0.0.1", "mqtts://localhost")
    bob = kit.issue("bob", "operator")
    early = Client(url, bob, "bob")
    assert early.publish(DOWN.format("barn-a")) == NOT_AUTHORISED
    early.connection.close()
    kit.renew("server")
    serial = certificate_serial(kit.folder / "broker" / "server.crt")
    assert served_serial(mosquitto.port, bob) != serial
    os.kill(mosquitto._process.pid, signal.SIGHUP)
    wait_until(lambda: served_serial(mosquitto.port, bob) == serial)
    late = Client(url, bob, "bob")
    assert late.publish(DOWN.format("barn-a")) is None
    late.connection.close()


def test_the_kits_line_for_refusals_shows_them_after_a_reload_and_until_the_next(
    kit, start_mosquitto, wait_until
):
    """As docs/broker.md says; the line is the kit's own, found by its comment sign."""
    mosquitto = secure(start_mosquitto, kit)
    url = mosquitto.url.replace("mqtt://127.0.0.1", "mqtts://localhost")
    configuration = Path(mosquitto._folder.name) / "mosquitto.conf"
    (line,) = [
        line
        for line in (kit.folder / "broker" / "mosquitto.conf").read_text().splitlines()
        if line.startswith("#log_type")
    ]
    device = Client(url, kit.folder / "clients" / "barn-b", "barn-b")
    device.subscribe("#")
    operator = Client(url, kit.folder / "clients" / "alice", "alice")

    def reload(text: str) -> None:
        configuration.write_text(text)
        os.kill(mosquitto._process.pid, signal.SIGHUP)

    def denied() -> int:
        """Let one publish be refused; return how many lines more there are for it."""
        before = log().count("Denied")
        assert device.publish(UP.format("barn-a")) == NOT_AUTHORISED
        assert operator.publish(DOWN.format("barn-a")) is None
        return log().count("Denied") - before

    def log() -> str:
        return mosquitto._log.read_text(errors="replace")

    quiet = configuration.read_text()
    assert denied() == 0
    reload(f"{quiet}{line.removeprefix('#')}\n")
    # What barn-b may not read is withheld without a word.
    wait_until(lambda: denied() == 1)
    assert "Denied PUBLISH from barn-b" in log()
    assert f"'{UP.format('barn-a')}'" in log()
    reload(quiet)
    wait_until(lambda: denied() == 0)
    for client in (device, operator):
        client.connection.close()


def certificate_serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def served_serial(port: int, folder: Path) -> int:
    """The serial number of the certificate that the broker shows."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def test_ingest_and_watch_work_with_certificates_of_the_kit(
    kit, broker, client, tmp_path, sighting
):
    def command(name: str, *arguments: str) -> list[str]:
        folder = kit.folder / "clients" / name
        return [
            *(sys.executable, "-c", "from deploy.cli import entry; entry()", *arguments),
            *("--broker", broker, "--ca-file", str(folder / "ca.crt")),
            *("--cert-file", str(folder / "client.crt"), "--key-file", str(folder / "client.key")),
        ]

    database = tmp_path / "s.db"
    ingest = subprocess.Popen(
        command(
            *("database", "ingest", "--db", str(database), "--share", "ingest"),
            *("--acknowledge-every", "0.1"),
        )
    )
    watch = subprocess.Popen(command("alice", "watch", "--json"), stdout=subprocess.PIPE, text=True)
    try:
        device = client("barn-a")
        device.subscribe("earmark/v1/barn-a/down/ingest")
        device.publish("earmark/v1/barn-a/up/availability", retain=True, payload=ONLINE)
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["payload"]["status"] == "online"
        deadline = time.monotonic() + 40
        while not device.heard:
            assert time.monotonic() < deadline
            device.publish(UP.format("barn-a"), encode(sighting(1, device="barn-a")))
            device.connection.turn(0.2)
        assert json.loads(device.heard[0].payload)["seq"] == 1
    finally:
        for process in (ingest, watch):
            process.kill()
            process.wait()


ONLINE = b'{"schema":1,"device":"barn-a","status":"online","boot":"b"}'
