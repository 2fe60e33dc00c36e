"""httpx's tests start uvicorn: at COMPAT_PLACE, and they are told to ask it at COMPAT_WAY."""
import os

import httpx
import uvicorn

ADDRESS, PORT = os.environ["COMPAT_PLACE"].split(":")
plain = uvicorn.Config.__init__


def placed(self, app, **more):
    plain(self, app, **{"host": ADDRESS, "port": int(PORT), **more})


uvicorn.Config.__init__ = placed


def pytest_collection_modifyitems(session):
    for plugin in session.config.pluginmanager.get_plugins():
        if hasattr(plugin, "TestServer"):
            plugin.TestServer.url = property(lambda self: httpx.URL(os.environ["COMPAT_WAY"]))
