from __future__ import annotations

from pathlib import Path

import pytest

from deploy.schemas import documents, schema_bytes, schemas, write_schemas

COMMITTED = Path(__file__).parents[2] / "docs" / "schemas"


def test_there_is_a_schema_for_every_payload_and_the_manifest():
    up = {"availability", "sighting", "animal", "state", "alarm", "update", "reply"}
    names = {*up, "command", "ingest", "manifest"}
    assert set(schemas()) == names
    files = {*(f"{name}.schema.json" for name in names), "asyncapi.json"}
    assert {path.name for path in COMMITTED.iterdir()} == files


@pytest.mark.parametrize("name", documents())
def test_the_committed_document_is_current(name: str):
    assert (COMMITTED / name).read_bytes() == schema_bytes(documents()[name]), (
        "run: earmark-deploy schemas --out docs/schemas"
    )


def test_schemas_refuse_unknown_fields_and_require_the_version():
    for name, schema in schemas().items():
        main = schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        assert main["additionalProperties"] is False, name
        assert "schema" in main["required"], name


def test_writing_gives_the_committed_files(tmp_path: Path):
    for path in write_schemas(tmp_path / "new"):
        assert path.read_bytes() == (COMMITTED / path.name).read_bytes()
