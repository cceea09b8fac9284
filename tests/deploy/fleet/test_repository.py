from __future__ import annotations

import json

import pytest

from deploy.fleet.repository import Repository, RepositoryError
from edge.release.manifest import decode_manifest

OTHER = "ab" * 32


@pytest.fixture
def embedder(repository) -> str:
    [bundle] = repository.bundles
    [path] = repository.folder.glob(f"targets/models/{bundle}/*.manifest.json")
    return decode_manifest(path.read_bytes(), str(path)).embedder.sha256


def test_what_a_device_needs(repository):
    [bundle] = repository.bundles
    wanted = Repository(repository.folder).wanted("barn-7")
    assert wanted is not None
    assert (wanted.bundle, wanted.assignment, wanted.means_seq) == (bundle, 1, 0)
    names = [content.path.rpartition("/")[2].partition(".")[2] for content in wanted.files]
    assert {"manifest.json", "detector.tflite", "embedder.tflite", "fleet.json"} <= set(names)
    for content in wanted.files:
        assert (repository.folder / content.path).stat().st_size == content.size


def test_nearest_means_count_and_only_of_the_same_embedder(repository, embedder):
    def publish(scope: str, seq: int, of: str) -> None:
        custom = {"seq": seq, "embedder_sha256": of}
        target = f"means/{scope}.npz"
        repository.means[target] = repository.put(target, scope.encode(), custom)

    [bundle] = repository.bundles
    publish("all", 5, embedder)
    publish("device-barn-7", 6, embedder)
    publish("device-barn-8", 7, OTHER)
    repository.assign(all=bundle)
    read = Repository(repository.folder)
    seqs = {name: read.wanted(name).means_seq for name in ("barn-7", "barn-8", "barn-9")}
    # With means of another embedder the device stays at the bundle's own, whatever its seq.
    assert seqs == {"barn-7": 6, "barn-8": None, "barn-9": 5}


def test_nothing_assigned_is_nothing_wanted(repository):
    repository.assign(barn_1=next(iter(repository.bundles)))
    read = Repository(repository.folder)
    assert read.wanted("barn-1") is not None
    assert read.wanted("barn-2") is None


def test_metadata_is_copied_so_that_half_of_it_is_of_no_harm(repository):
    repository.assign(all=next(iter(repository.bundles)))
    names = [content.path for content in Repository(repository.folder).metadata]
    assert names[0] == "metadata/1.root.json"
    assert names[-2:] == ["metadata/2.snapshot.json", "metadata/timestamp.json"]
    assert "metadata/1.models.json" not in names


def test_a_repository_that_counts_on_from_a_lost_one_begins_where_it_does(repository):
    metadata = repository.folder / "metadata"
    root = (metadata / "1.root.json").read_bytes()
    for version in (1001, 1002, 999):
        (metadata / f"{version}.root.json").write_bytes(root)
    (metadata / "1.root.json").unlink()
    read = Repository(repository.folder)
    assert read.root_file == metadata / "999.root.json"
    names = [content.path for content in read.metadata]
    assert names[:3] == [f"metadata/{version}.root.json" for version in (999, 1001, 1002)]


def test_what_is_missing_or_damaged_is_named(repository):
    read = Repository(repository.folder)
    content = read.wanted("barn-7").files[0]
    read.check({content.path: content})
    path = repository.folder / content.path
    path.write_bytes(b"x" * content.size)
    with pytest.raises(RepositoryError, match="damaged; restore the repository"):
        read.check({content.path: content})
    path.unlink()
    with pytest.raises(RepositoryError, match="missing; publish it again"):
        read.check({content.path: content})


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("timestamp.json", None, "missing; is this a repository"),
        ("timestamp.json", "{", "not TUF metadata"),
        ("timestamp.json", '{"signed": {"meta": {}}}', "names no snapshot.json"),
        ("1.snapshot.json", '{"signed": {"meta": {}}}', "names no targets.json"),
        ("1.models.json", '{"signed": {"targets": {}}}', "which is not published"),
        ("1.root.json", None, "1.root.json: missing"),
    ],
)
def test_a_folder_that_is_no_repository(repository, name, text, problem):
    path = repository.folder / "metadata" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(RepositoryError, match=problem):
        Repository(repository.folder).wanted("barn-7")


def test_hashes_that_are_none_are_refused(repository):
    path = repository.folder / "metadata" / "1.models.json"
    models = json.loads(path.read_text())
    for target in models["signed"]["targets"].values():
        target["hashes"]["sha256"] = "../../../etc/passwd"
    path.write_text(json.dumps(models))
    with pytest.raises(RepositoryError, match="not TUF metadata"):
        Repository(repository.folder)
