"""Addresses of cameras, and how they may be shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_BLANK = "***"


def blank_credentials(url: str) -> str:
    """Return a camera's URL for messages: without user, password and query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    user, place = _split_user(rest)
    # Many cameras take the password in the query, and each calls it differently.
    place, question, _ = place.partition("?")
    return f"{scheme}://{user and f'{_BLANK}@'}{place}{question and f'?{_BLANK}'}"


def blank_text(text: str, url: str) -> str:
    """Return somebody else's message about `url` without what is secret in the URL."""
    text = text.replace(url, blank_credentials(url))
    _, mark, rest = url.partition("://")
    if not mark:
        return text
    user, place = _split_user(rest)
    name, _, password = user.partition(":")
    secrets = {user, password, unquote(password), place.partition("?")[2]}
    # The user's name alone is no secret, and may be an ordinary word.
    for secret in sorted(secrets - {"", name}, key=len, reverse=True):
        text = text.replace(secret, _BLANK)
    return text


def scheme_of(url: str) -> str:
    """Return the scheme in lower case, empty for a plain path."""
    scheme = urlsplit(url).scheme if "://" in url else ""
    return scheme.lower()


def _split_user(rest: str) -> tuple[str, str]:
    """Split what follows `://` into user with password (empty for none), and the place."""
    authority, _, path = rest.partition("/")
    user, at, _ = authority.rpartition("@")
    if at:
        return user, rest[len(user) + 1 :]
    port = authority.partition(":")[2].partition("?")[0]
    if "@" in path and not port.isdecimal() and ":" in authority:
        # A password with a slash that nobody encoded: rather too much blanked than too little.
        user, _, place = rest.rpartition("@")
        return user, place
    return "", rest
