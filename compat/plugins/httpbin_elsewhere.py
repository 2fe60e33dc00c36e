"""Gives tests that want pytest-httpbin the httpbin that COMPAT_HTTPBIN names, in place of one of their own process."""
import os

import pytest


class Elsewhere:
    """What tests use of pytest-httpbin's server."""

    def __init__(self, url):
        self.url = url
        self.host, _, port = url.split("//")[1].rstrip("/").partition(":")
        self.port = int(port)

    def join(self, path, allow_fragments=True):
        from urllib.parse import urljoin

        return urljoin(self.url, path, allow_fragments)

    __add__ = lambda self, path: self.url + path  # noqa: E731


@pytest.fixture(scope="session")
def httpbin():
    return Elsewhere(os.environ["COMPAT_HTTPBIN"])
