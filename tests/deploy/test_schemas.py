from __future__ import annotations

from pathlib import Path

import pytest

from deploy.schemas import schema_bytes, schemas, write_schemas

COMMITTED = Path(__file__).parents[2] / "docs" / "schemas"


def test_there_is_a_schema_for_every_payload_and_the_manifest():
    names = {"availability", "sighting", "animal", "state", "alarm", "manifest"}
    assert set(schemas()) == names
    assert {path.name for path in COMMITTED.iterdir()} == {f"{n}.schema.json" for n in names}


@pytest.mark.parametrize("name", schemas())
def test_the_committed_schema_is_current(name: str):
    path = COMMITTED / f"{name}.schema.json"
    assert path.read_bytes() == schema_bytes(schemas()[name]), (
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
