from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from edge.health import set_up_logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


def test_a_json_object_a_line() -> None:
    stream = io.StringIO()
    set_up_logs("json", "info", stream=stream)
    log = logging.getLogger("earmark.agent")
    log.info("two\nlines of %s", "Ärger")

    def work() -> None:
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("it failed")

    thread = threading.Thread(target=work, name="camera-pen-1")
    thread.start()
    thread.join()
    log.debug("not asked for")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["message"] == "two\nlines of Ärger"
    assert (first["level"], first["logger"]) == ("info", "earmark.agent")
    assert first["time"].endswith("Z")
    assert "camera" not in first
    assert second["camera"] == "pen-1"
    assert "ValueError: broken" in second["error"]


def test_a_connection_knows_its_camera() -> None:
    stream = io.StringIO()
    set_up_logs("json", "info", stream=stream)
    log = logging.getLogger("earmark")
    thread = threading.Thread(target=lambda: log.warning("lost"), name="capture pen-1")
    thread.start()
    thread.join()
    assert json.loads(stream.getvalue())["camera"] == "pen-1"


@pytest.mark.parametrize("journal", [False, True])
def test_text_with_a_time_unless_journald_adds_it(journal: bool) -> None:
    stream = io.StringIO()
    set_up_logs("text", "warning", stream=stream, journal=journal)
    logging.getLogger("earmark").warning("hm")
    logging.getLogger("earmark").info("not asked for")
    line = stream.getvalue()
    assert line.endswith("WARNING earmark: hm\n")
    assert line.startswith("WARNING") is journal
