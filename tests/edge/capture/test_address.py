"""What is secret in a camera's address never shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.address import blank_credentials, blank_text, scheme_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://farm:s3cret@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://farm@cam/live", "rtsp://***@cam/live"),
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("rtsp://a:p@ss@cam/live", "rtsp://***@cam/live"),
        ("http://cam/snap?user=admin&password=s3cret", "http://cam/snap?***"),
        ("rtsp://a:p/w@cam/live", "rtsp://***@cam/live"),
        ("rtsp://a:p?w@cam/live?x=1", "rtsp://***@cam/live?***"),
        ("rtsp://cam:554/live@2", "rtsp://cam:554/live@2"),
        ("rtsp://cam?password=s3cret", "rtsp://cam?***"),
        ("videos/pen.mp4", "videos/pen.mp4"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_credentials_are_blanked(url: str, shown: str) -> None:
    assert blank_credentials(url) == shown


word = st.text("abcdefXYZ0123456789!$%", min_size=3, max_size=12).map(lambda text: "Q" + text)


@given(user=word, password=word, host=st.sampled_from(["cam", "10.0.0.9"]))
def test_no_message_holds_the_password(user: str, password: str, host: str) -> None:
    url = f"rtsp://{user}:{password}@{host}/live"
    message = f"{url}: method DESCRIBE failed for {user}:{password}"
    assert password not in blank_credentials(url)
    if password not in user:
        assert password not in blank_text(message, url)
    assert host in blank_text(message, url)


def test_a_message_about_an_open_camera_stays() -> None:
    assert blank_text("Connection refused", "rtsp://cam/live") == "Connection refused"
    assert blank_text("Connection refused", "pen.mp4") == "Connection refused"


def test_schemes() -> None:
    assert scheme_of("RTSP://cam/x") == "rtsp"
    assert scheme_of("C:/clips/pen.mp4") == ""
    assert scheme_of("v4l2:/dev/video0") == ""
