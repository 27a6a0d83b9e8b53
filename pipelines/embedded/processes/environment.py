"""What a program gets to know of the environment that Evergreen was started in: nothing that could be a secret."""

from __future__ import annotations

from collections.abc import Mapping

# How programs find files, certificates, proxies and a language; no logins but those that a proxy's address may hold.
SURROUNDINGS = (
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DO_NOT_TRACK"}
    | {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}
)


def surroundings(variables: Mapping[str, str], *prefixes: str) -> dict[str, str]:
    """Of `variables` what every program may know, and those whose names begin with one of `prefixes`.

    >>> surroundings({"PATH": "/bin", "LC_ALL": "C", "AWS_REGION": "x", "BANK_PASSWORD": "x"}, "AWS_")
    {'PATH': '/bin', 'LC_ALL': 'C', 'AWS_REGION': 'x'}
    """
    return {
        name: value
        for name, value in variables.items()
        if name in SURROUNDINGS or name.startswith(("LC_", "XDG_", *prefixes))
    }
