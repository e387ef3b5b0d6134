"""gunicorn's configuration: one process with threads, behind nginx.

nginx has TLS, deadlines and patience with slow clients, and hands over whole requests: a thread is held for as long as
its answer takes. One process, because the pool, the metrics and the memory are then one; threads are enough for work
that waits for a database. Values come from the unit's environment.
"""

from __future__ import annotations

import os
from typing import Any

from gunicorn.http import wsgi

wsgi_app = "lab_backend.wsgi:app"
bind = os.environ.get("BACKEND_BIND", "127.0.0.1:8080")
workers = 1
worker_class = "gthread"
# Far more than connections to the database. nginx leaves some of them to /health.
threads = int(os.environ.get("BACKEND_THREADS", "48"))
preload_app = True
worker_tmp_dir = "/dev/shm"  # noqa: S108 gunicorn's heartbeat file has no name there
timeout = 30
graceful_timeout = 15
control_socket_disable = True
sendfile = False  # it would go round WholeResponse
errorlog = "-"
accesslog = None
loglevel = os.environ.get("BACKEND_LOG_LEVEL", "info")
# The journal adds the time.
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": loglevel.upper()},
    "loggers": {
        "gunicorn.error": {"handlers": ["stderr"], "level": loglevel.upper(), "propagate": False},
        "gunicorn.access": {"handlers": [], "propagate": False},
        "urllib3": {"level": "ERROR"},
    },
}


class Parts(bytearray):
    """Takes the place of a response's socket, and keeps what is sent."""

    sendall = bytearray.extend


class WholeResponse(wsgi.Response):  # type: ignore[misc] # gunicorn has no types
    """An answer that is sent when it is whole.

    gunicorn sends the headers first. Killed before the body, it leaves nginx an answer that has begun, and no other
    instance can be asked any more.
    """

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        super().__init__(req, Parts(), cfg)
        self.connection = sock

    def close(self) -> None:
        """Send what was kept: the last thing that gunicorn does with an answer."""
        super().close()
        self.connection.sendall(self.sock)


wsgi.Response = WholeResponse  # gunicorn has no setting for it


def post_worker_init(_worker: Any) -> None:
    """Threads do not survive a fork, so they begin here."""
    from lab_backend.wsgi import backend

    backend.start()
