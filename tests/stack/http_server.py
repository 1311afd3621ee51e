# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server in a thread of its own. Used by `git_server.py` and `web_server.py`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answer requests while the block lasts; nothing of it is left behind."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
