"""Names of a repository's targets, and who runs what by them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.release.targets import (
    MAX_FLEET_BYTES,
    MAX_SEQ,
    Assigned,
    Fleet,
    assigned,
    content_path,
    groups_of,
    is_repository_path,
    is_scope,
    means_target,
    model_target,
    read_fleet,
    read_terms,
    scopes_of,
    write_fleet,
)

A, B, C = "a" * 64, "b" * 64, "c" * 64
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{1,47}", fullmatch=True)


def run(bundle: str, seq: int) -> Assigned:
    return Assigned(bundle=bundle, seq=seq)


def test_a_device_comes_before_its_groups_and_these_before_all() -> None:
    releases = {"all": run(A, 1), "group/old": run(B, 2), "device/barn-7": run(C, 3)}
    fleet = Fleet(seq=3, groups={"old": ["barn-7", "barn-8"]}, releases=releases)
    assert assigned(fleet, "barn-7") == run(C, 3)
    assert assigned(fleet, "barn-8") == run(B, 2)
    assert assigned(fleet, "barn-9") == run(A, 1)


def test_of_two_groups_the_first_in_the_alphabet_that_has_one_counts() -> None:
    groups = {"pigs": ["barn-7"], "cows": ["barn-7"], "apes": ["barn-7"]}
    fleet = Fleet(seq=2, groups=groups, releases={"group/pigs": run(A, 1), "group/cows": run(B, 2)})
    assert groups_of(fleet, "barn-7") == ["apes", "cows", "pigs"]
    assert list(scopes_of(fleet, "barn-7"))[-2:] == ["group/pigs", "all"]
    assert assigned(fleet, "barn-7") == run(B, 2)


def test_nothing_is_assigned_to_whom_nobody_named() -> None:
    assert assigned(Fleet(seq=1, releases={"device/barn-8": run(A, 1)}), "barn-7") is None


def test_a_device_that_was_moved_to_an_older_assignment_still_counts_up() -> None:
    fleet = Fleet(seq=9, releases={"all": run(A, 3)}, moved={"barn-7": 9})
    assert assigned(fleet, "barn-7") == run(A, 9)
    assert assigned(fleet, "barn-8") == run(A, 3)
    later = msgspec.structs.replace(fleet, releases={"all": run(B, 10)})
    assert assigned(later, "barn-7") == run(B, 10)


@given(
    st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=3),
    st.dictionaries(NAMES, st.integers(1, MAX_SEQ), max_size=3),
)
def test_a_fleet_comes_back_as_it_was_written(
    groups: dict[str, list[str]], moved: dict[str, int]
) -> None:
    fleet = Fleet(seq=5, groups=groups, releases={"all": run(A, 1)}, moved=moved)
    assert read_fleet(write_fleet(fleet)) == fleet


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (b"\xff{}", "JSON"),
        (b"[" * 100_000, "."),
        (b'{"schema": 2, "seq": 1}', "schema 2"),
        (b'{"schema": 1, "seq": 0}', "seq"),
        (b'{"schema": 1, "seq": 1, "more": 1}', "more"),
        (b'{"schema": 1, "seq": 1, "groups": {"../x": []}}', "groups"),
        (b'{"schema": 1, "seq": 1, "groups": {"cows": ["barn-7\\n"]}}', "groups"),
        (b'{"schema": 1, "seq": 1, "releases": {"herd": {"bundle": "x", "seq": 1}}}', "releases"),
        (b'{"schema": 1, "seq": 1, "releases": {"all": {"bundle": "x", "seq": 1}}}', "bundle"),
        (b" " * (MAX_FLEET_BYTES + 1), "larger"),
    ],
)
def test_what_is_no_fleet_is_refused_in_one_line(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read_fleet(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "custom", [None, {}, {"seq": 1}, {"seq": "1", "embedder_sha256": A}, [], {"seq": 1, "x": 2}]
)
def test_means_without_their_terms_are_refused(custom: object) -> None:
    with pytest.raises(ValueError, match="signed"):
        read_terms(custom)


def test_names_of_targets_and_of_their_content() -> None:
    assert model_target(A, "embedder.tflite") == f"models/{A}/embedder.tflite"
    assert means_target("all") == "means/all.npz"
    assert means_target("group/north-barn") == "means/group-north-barn.npz"
    assert means_target("device/barn-7") == "means/device-barn-7.npz"
    assert content_path(f"models/{A}/x.npz", B) == f"targets/models/{A}/{B}.x.npz"


@pytest.mark.parametrize("file", ["..", ".", "", "a/b", "../a", ".hidden", "a\n", "a" * 65, "ä"])
def test_no_file_of_a_bundle_has_such_a_name(file: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        model_target(A, file)


@pytest.mark.parametrize("scope", ["", "all\n", "group/", "device/../x", "device/B", "herd/x"])
def test_no_scope_has_such_a_name(scope: str) -> None:
    assert not is_scope(scope)
    with pytest.raises(ValueError, match="not all"):
        means_target(scope)


@pytest.mark.parametrize(
    "path",
    [
        "metadata/timestamp.json",
        "metadata/12.root.json",
        f"targets/models/{A}/{B}.embedder.tflite",
        f"targets/means/{B}.device-barn-7.npz",
        f"targets/assignments/{B}.fleet.json",
    ],
)
def test_a_repository_has_such_files(path: str) -> None:
    assert is_repository_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metadata/../../etc/passwd",
        "metadata/timestamp.json\n",
        "metadata/0.root.json",
        "/metadata/timestamp.json",
        f"targets/models/{A}/../{B}.x",
        f"targets/models/{A}/{B}...",
        f"targets/models/{B}.x",
        "targets/means/all.npz",
        f"targets/secrets/{B}.x",
    ],
)
def test_a_repository_has_no_such_files(path: str) -> None:
    assert not is_repository_path(path)
