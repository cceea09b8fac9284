from __future__ import annotations

import socket

import pytest

from edge.errors import BrokerError
from edge.messaging import local_broker as module
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import open_connection
from edge.messaging.local_broker import Mosquitto, find_mosquitto, listens, local_broker

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto")


@pytest.mark.slow
@needs_mosquitto
def test_mosquitto_comes_first_and_is_gone_afterwards():
    with local_broker() as (url, name):
        assert name.startswith("mosquitto ")
        broker = BrokerOptions(url)
        open_connection(broker, "barn-7").close()
        assert broker.host == "127.0.0.1"
    assert not listens(broker.port)


@pytest.mark.slow
def test_without_mosquitto_it_is_amqtt(monkeypatch):
    monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    with local_broker() as (url, name):
        assert name.startswith("amqtt ")
        port = BrokerOptions(url).port
        assert listens(port)
    assert not listens(port)


def test_with_neither_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BrokerError, match="apt-get install mosquitto"), local_broker():
        pass


@pytest.mark.slow
@needs_mosquitto
def test_a_configuration_that_mosquitto_refuses_is_one_line():
    with pytest.raises(BrokerError, match="does not start") as caught, Mosquitto(["nonsense 1"]):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@needs_mosquitto
def test_a_port_that_is_taken_is_not_mistaken_for_the_broker():
    broker = Mosquitto()
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        broker.port = squatter.getsockname()[1]
        with pytest.raises(BrokerError, match="does not start"), broker:
            pass
