"""The API is as its description says, whatever is sent: schemathesis makes up requests, good ones and bad ones."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from conftest import Cluster
from hypothesis import HealthCheck
from hypothesis import settings as examples
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from lab_backend import __version__, web
from lab_backend.settings import Settings

# Consul is not there: who asks for the instances gets a 503. What they are is tested on a lab.
WITHOUT_CONSUL = "/api/instances"


# schemathesis reads the description when tests are collected, so what it belongs to is made then.
PLACE = tempfile.TemporaryDirectory(prefix="lab-backend-")
SETTINGS = Settings("backend-1", "127.0.0.1", Path(PLACE.name), None, None, None, database_deadline=3.0)
BACKEND = web.Backend(SETTINGS)
GENERATION = GenerationConfig(deterministic=True, database="none")
SCHEMA = schemathesis.openapi.from_wsgi(
    "/api/openapi.json",
    web.create_app(BACKEND),
    config=SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION))),
)


@pytest.fixture(scope="module", autouse=True)
def serving(cluster: Cluster) -> Iterator[None]:
    """The instance has its database."""
    cluster.create_user("described", "one")
    cluster.write_service(SETTINGS.service_file, "described", "one")
    SETTINGS.app_file.write_text('{"greeting": "hello"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGSERVICEFILE", str(SETTINGS.service_file))
        assert BACKEND.monitor.look().status == "up"
        yield
        BACKEND.pool.close()
    cluster.revoke_user("described")


@SCHEMA.parametrize()
@examples(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_api_is_as_described(case: schemathesis.Case, caplog: pytest.LogCaptureFixture) -> None:
    response = case.call()
    if case.path == WITHOUT_CONSUL and response.status_code == 503:
        case.validate_response(response, excluded_checks=[schemathesis.checks.not_a_server_error])
    else:
        case.validate_response(response)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_every_path_is_described() -> None:
    app = web.create_app(BACKEND)
    described = app.test_client().get("/api/openapi.json").get_json()
    served = {
        (rule.rule.replace("<int:note_id>", "{id}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, item in described["paths"].items() for method in item} == served
    assert described["info"]["version"] == __version__
