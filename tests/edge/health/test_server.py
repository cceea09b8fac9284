from __future__ import annotations

import http.client
import json
import logging
import socket
import struct
import sys
import threading
import urllib.error
import urllib.request

import pytest

from edge.errors import EarmarkError, UsageError
from edge.health import Condition, HealthServer, parse_listen
from edge.health.metrics import CameraNumbers, CommandNumbers, Numbers, render


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as channel:
            channel.bind(("::1", 0))
    except OSError:
        return False
    return True


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_pages() -> None:
    conditions = [Condition((), ("camera a: away for 3 s",)), Condition(("disk",), ())]

    failures = [
        UsageError("metrics need: pip install 'earmark[metrics]'"),
        EarmarkError("outbox.db: disk I/O error"),
    ]

    def metrics() -> bytes:
        raise failures.pop(0)

    server = HealthServer(("127.0.0.1", 0), lambda: conditions.pop(0), metrics)
    try:
        code, body = get(server.port, "/healthz")
        assert code == 200
        assert json.loads(body) == {
            "status": "ok",
            "problems": [],
            "warnings": ["camera a: away for 3 s"],
        }
        code, body = get(server.port, "/healthz?verbose")
        assert (code, json.loads(body)["problems"]) == (503, ["disk"])
        assert get(server.port, "/metrics") == (
            501,
            "metrics need: pip install 'earmark[metrics]'\n",
        )
        # For now; the next question may be answered.
        assert get(server.port, "/metrics") == (503, "outbox.db: disk I/O error\n")
        assert get(server.port, "/else")[0] == 404
        with pytest.raises(UsageError, match="another agent"):
            HealthServer(("127.0.0.1", server.port), lambda: Condition((), ()), metrics)
    finally:
        server.close()


def test_a_client_that_hangs_up_leaves_no_traceback(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked, answer, told = threading.Event(), threading.Event(), threading.Event()

    def metrics() -> bytes:
        asked.set()
        assert answer.wait(30)
        return b"x" * 5_000_000

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "hung up" in record.getMessage():
                told.set()

    caplog.set_level(logging.DEBUG, "earmark.health")
    handler = Handler()
    server = HealthServer(("127.0.0.1", 0), lambda: Condition((), ()), metrics)
    try:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert asked.wait(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
        logging.getLogger("earmark.health").addHandler(handler)
        answer.set()
        assert told.wait(30)
    finally:
        logging.getLogger("earmark.health").removeHandler(handler)
        server.close()
    assert "Traceback" not in capfd.readouterr().err
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_a_bug_in_a_page_is_one_record_of_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def metrics() -> bytes:
        raise ZeroDivisionError("odd")

    server = HealthServer(("127.0.0.1", 0), lambda: Condition((), ()), metrics)
    try:
        with pytest.raises(http.client.RemoteDisconnected):
            get(server.port, "/metrics")
    finally:
        server.close()
    assert "Traceback" not in capfd.readouterr().err
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")
def test_the_pages_over_ipv6() -> None:
    address = parse_listen("[::1]:0", remote=False)
    server = HealthServer(address, lambda: Condition((), ()), lambda: b"")
    try:
        url = f"http://[::1]:{server.port}/healthz"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
    finally:
        server.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9110", ("127.0.0.1", 9110)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:9110", ("::1", 9110)),
    ],
)
def test_addresses_that_may_be_listened_on(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text, remote=False) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9110", "write HOST:PORT"),
        ("127.0.0.1:", "write HOST:PORT"),
        ("127.0.0.1:70000", "write HOST:PORT"),
        ("barn:9110", "give an IP address"),
        ("0.0.0.0:9110", "anybody there could read it"),
        ("192.168.1.5:9110", "anybody there could read it"),
    ],
)
def test_addresses_that_may_not(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_listen(text, remote=False)
    assert parse_listen("0.0.0.0:9110", remote=True) == ("0.0.0.0", 9110)


def numbers() -> Numbers:
    camera = CameraNumbers(up=True, dropped=3, lost=1)
    for seconds in (0.005, 0.03, 0.04, 9.0):
        camera.frame(seconds)
    commands = CommandNumbers(5, 2, {"busy": 1, "expired": 0}, {"rate": 9})
    return Numbers(
        *({"pen-1": camera}, 7, 2, 4.5, 1, "cpu (x)", "abc", "0.1", False, True, 48.0, 99.5, 50.0),
        commands=commands,
    )


def test_what_prometheus_reads() -> None:
    lines = render(numbers()).decode().splitlines()
    for line in (
        'earmark_agent_info{backend="cpu (x)",release="abc",version="0.1"} 1.0',
        "earmark_healthy 1.0",
        "earmark_outbox_events 2.0",
        "earmark_outbox_oldest_seconds 4.5",
        "earmark_temperature_celsius 48.0",
        'earmark_memory_megabytes{process="agent"} 99.5',
        'earmark_memory_megabytes{process="children"} 50.0',
        "earmark_sightings_total 7.0",
        "earmark_inference_restarts_total 1.0",
        "earmark_commands_taken_total 5.0",
        "earmark_commands_repeated_total 2.0",
        'earmark_commands_refused_total{reason="busy"} 1.0',
        'earmark_commands_refused_total{reason="expired"} 0.0',
        'earmark_commands_ignored_total{reason="rate"} 9.0',
        'earmark_camera_up{camera="pen-1"} 1.0',
        'earmark_frames_total{camera="pen-1"} 4.0',
        'earmark_frames_dropped_total{camera="pen-1"} 3.0',
        'earmark_frame_seconds_bucket{camera="pen-1",le="0.02"} 1.0',
        'earmark_frame_seconds_bucket{camera="pen-1",le="0.05"} 3.0',
        'earmark_frame_seconds_bucket{camera="pen-1",le="5.0"} 3.0',
        'earmark_frame_seconds_bucket{camera="pen-1",le="+Inf"} 4.0',
        'earmark_frame_seconds_count{camera="pen-1"} 4.0',
        'earmark_frame_seconds_sum{camera="pen-1"} 9.075',
    ):
        assert line in lines, line


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(EarmarkError, match=r"earmark\[metrics\]"):
        render(numbers())
