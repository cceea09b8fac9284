"""Addresses of cameras, and how they may be shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_BLANK = "***"


def blank_credentials(url: str) -> str:
    """Return a camera's URL for messages: without user, password and query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and user:
        authority = f"{_BLANK}@{host}"
    # Many cameras take the password in the query, and each calls it differently.
    path, question, _ = path.partition("?")
    return f"{scheme}://{authority}{slash}{path}{question and f'?{_BLANK}'}"


def blank_text(text: str, url: str) -> str:
    """Return somebody else's message about `url` without what is secret in the URL."""
    text = text.replace(url, blank_credentials(url))
    _, mark, rest = url.partition("://")
    if not mark:
        return text
    authority, _, path = rest.partition("/")
    user, _, _ = authority.rpartition("@")
    name, _, password = user.partition(":")
    secrets = {user, password, unquote(password), path.partition("?")[2]}
    # The user's name alone is no secret, and may be an ordinary word.
    for secret in sorted(secrets - {"", name}, key=len, reverse=True):
        text = text.replace(secret, _BLANK)
    return text


def scheme_of(url: str) -> str:
    """Return the scheme in lower case, empty for a plain path."""
    scheme = urlsplit(url).scheme if "://" in url else ""
    return scheme.lower()
