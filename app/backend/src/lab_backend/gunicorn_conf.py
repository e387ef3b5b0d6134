"""gunicorn's configuration: one process with threads, behind TLS.

One process, because the pool, the metrics and the memory are then one; threads are enough for work that waits for a
database. Values come from the unit's environment.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any

wsgi_app = "lab_backend.wsgi:app"
bind = os.environ.get("BACKEND_BIND", "127.0.0.1:8443").split(",")
workers = 1
worker_class = "gthread"
# Far more than connections to the database: some must stay free for /health while others wait for the database.
threads = int(os.environ.get("BACKEND_THREADS", "48"))
preload_app = True
worker_tmp_dir = "/dev/shm"  # noqa: S108 gunicorn's heartbeat file has no name there
timeout = 30
graceful_timeout = 15
# nginx and the other instances keep their connections for less.
keepalive = 20
control_socket_disable = True
certfile = os.environ.get("BACKEND_TLS_CERTIFICATE")
keyfile = os.environ.get("BACKEND_TLS_KEY")
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

_contexts: dict[tuple[int, int], ssl.SSLContext] = {}


def ssl_context(config: Any, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """The TLS context, made again only when the certificate's file has changed: a renewed one needs no restart."""
    status = os.stat(config.certfile)
    stamp = (status.st_mtime_ns, status.st_ino)
    context = _contexts.get(stamp)
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(config.certfile, config.keyfile)
        _contexts.clear()
        _contexts[stamp] = context
    return context


def post_worker_init(_worker: Any) -> None:
    """Threads do not survive a fork, so they begin here."""
    from lab_backend.wsgi import backend

    backend.start()
