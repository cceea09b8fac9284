from __future__ import annotations

import pytest

from deploy.ingest.database import (
    DatabaseUnavailableError,
    RowRefusedError,
    open_database,
    without_password,
)
from edge.errors import UsageError
from edge.messaging.local_broker import free_port


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:secret@host/db", "give a file or postgresql://HOST/NAME"),
        ("postgresql://u:secret@host", "name the database after the host"),
        ("sqlite://file.db", "write sqlite:///FILE"),
        ("", "write sqlite:///FILE"),
    ],
)
def test_what_is_no_database_is_wrong_usage_and_shows_no_password(url, words):
    with pytest.raises(UsageError, match=words) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@host:5/db?password=x", "postgresql://u@host:5/db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql:///db", "postgresql:///db"),
        ("file.db", "file.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize("prefix", ["", "sqlite:///"])
def test_a_file_is_made_with_its_folder(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    open_database(f"{prefix}a/b.db").close()
    assert (tmp_path / "a" / "b.db").exists()


def test_a_report_makes_no_file(tmp_path):
    with pytest.raises(UsageError, match="no such database"):
        open_database(str(tmp_path / "none.db"), read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_something_else_is_left_alone(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir, " * 100)
    with pytest.raises(DatabaseUnavailableError, match="not a usable SQLite file"):
        open_database(str(path))
    assert path.read_text().startswith("Dear Sir")


def test_a_commit_is_synced_to_the_medium(tmp_path):
    database = open_database(str(tmp_path / "a.db"))
    assert database.execute("PRAGMA synchronous") == [(2,)]
    database.close()


@pytest.mark.slow
def test_a_commit_in_postgresql_is_synced_whatever_the_server_says(postgres_url):
    database = open_database(postgres_url)
    assert database.execute("SHOW synchronous_commit") == [("on",)]
    database.close()


@pytest.mark.slow
def test_a_server_that_is_not_there_is_one_line_without_the_password(postgres):
    with pytest.raises(DatabaseUnavailableError) as caught:
        open_database(f"postgresql://u:secret@127.0.0.1:{free_port()}/db")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_rolls_the_transaction_back_and_leaves_it_usable(database):
    database.execute("CREATE TABLE t (x INTEGER NOT NULL)")

    def half() -> None:
        with database.transaction():
            database.execute("INSERT INTO t VALUES (?)", (1,))
            database.execute("INSERT INTO t VALUES (?)", (None,))

    with pytest.raises(RowRefusedError):
        half()
    assert database.execute("SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(DatabaseUnavailableError):
        database.execute("SELECT nothing FROM nowhere")
    database.execute_many("INSERT INTO t VALUES (?)", [(1,), (2,)])
    assert database.execute("SELECT sum(x) FROM t WHERE x % 5 <> ?", (0,)) == [(3,)]
