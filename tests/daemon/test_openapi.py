"""The description of the API is valid OpenAPI 3.1, and says of each endpoint what its row says."""

import json

from openapi_spec_validator import OpenAPIV31SpecValidator

from authsome.daemon import openapi
from authsome.daemon.api import views
from authsome.daemon.router import Access, Endpoint, Router
from authsome.errors import ConnectionNotFound, ProviderNotFound

ROUTER = Router(
    [
        Endpoint(
            method="GET",
            template="/health",
            handler=None,
            access=Access.OPEN,
            summary="alive",
            response=views.shape({}),
        ),
        Endpoint(
            method="POST",
            template="/connections/{provider}/{connection}/secrets",
            handler=None,
            access=Access.PROOF_OR_RUN,
            summary="the plain values",
            query={"limit": views.INTEGER},
            request=views.shape({"purpose": views.TEXT}, {"fields": views.TEXTS}),
            response=views.shape(
                {
                    "env": views.TEXT_MAP,
                    "expires_at": views.OPTIONAL_TEXT,
                    "x": views.BOOLEAN,
                }
            ),
            status=201,
            errors=(ConnectionNotFound, ProviderNotFound),
        ),
        Endpoint(
            method="GET", template="/auth/sessions/{id}/input", handler=None, access=Access.BROWSER, summary="the form"
        ),
        Endpoint(
            method="DELETE", template="/proxy/runs/{run}", handler=None, access=Access.RUN, summary="ends", status=204
        ),
    ]
)


def described() -> dict[str, object]:
    """The description as it is served."""
    return json.loads(json.dumps(openapi.document(ROUTER, version="1.2.3"), default=dict))


def test_the_description_is_valid():
    """By an independent validator."""
    document = described()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_the_description_says_what_the_table_says():
    """Every endpoint with its parameters, body, security and errors, each status once."""
    document = described()
    assert {(path, method) for path, item in document["paths"].items() for method in item} == {
        (endpoint.template, endpoint.method.lower()) for endpoint in ROUTER.endpoints
    }
    operation = document["paths"]["/connections/{provider}/{connection}/secrets"]["post"]
    assert [(p["name"], p["in"]) for p in operation["parameters"]] == [
        ("provider", "path"),
        ("connection", "path"),
        ("limit", "query"),
    ]
    assert operation["security"] == [{"proof": []}, {"run": []}]
    assert operation["responses"].keys() == {"201", "400", "401", "404", "503"}
    missing = operation["responses"]["404"]["description"]
    assert "`connection_not_found`" in missing
    assert "`provider_not_found`" in missing
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["info"]["version"] == "1.2.3"
