"""A definition in upstream's words, with comments, serves from `register` to the exported token."""

import json

from fakes.oidc import BASIC, OidcServer
from fakes.program import Program


def test_from_register_to_export(program: Program, oidc_server: OidcServer, visitor):
    """Client authentication by HTTP Basic, PKCE, scopes and both names of the token are what upstream's file says."""
    path = program.directory / "acme.jsonc"
    path.write_text(
        f"""// Acme
        {{
          "name": "acme", "display_name": "Acme", "logo": "img.example/acme", "type": "app",
          "auth_type": "oauth2", "flow": "pkce",
          "api_url": "regex:^(api\\\\.acme\\\\.test|www\\\\.acme\\\\.test)",
          "oauth": {{
            "base_url": "{oidc_server.issuer}", // where it is
            "authorization_url": "{oidc_server.authorization_url.replace(oidc_server.issuer, "{base_url}")}",
            "token_url": "{oidc_server.token_url.replace(oidc_server.issuer, "{base_url}")}",
            "revocation_url": null, "device_authorization_url": null, "device_token_request": "oauth2_form",
            "scopes": ["openid"], "authorization_params": {{"prompt": "consent"}},
            "pkce": true, "supports_device_code": false, "supports_dcr": false, "authorization_method": "basic"
          }},
          "registration": {{"registration_endpoint": null}},
          "export": {{"ACME_TOKEN": "ACCESS_TOKEN", "env": {{"access_token": "ACME_ACCESS_TOKEN"}}}},
          "allow_private_addresses": true /* ours, for a test on this machine */
        }}"""
    )
    done = program("register", str(path), "--yes")
    assert done.returncode == 0, done.stderr
    assert "sends the credential to       api.acme.test\n                                www.acme.test\n" in done.stderr
    client = json.dumps({"client_id": BASIC.id, "client_secret": BASIC.secret})
    process = program.start("login", "acme", "--stdin", "--json", input=client)
    visitor.log_in(program.wait_opened(), oidc_server)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    (request,) = oidc_server.token_requests("authorization_code")
    assert request.headers["authorization"].startswith("Basic ")
    assert request.form is not None
    assert request.form["code_verifier"]
    token = program("export", "acme", "--format", "json")
    values = json.loads(token.stdout)
    assert set(values) == {"ACME_TOKEN", "ACME_ACCESS_TOKEN"}
    assert len(set(values.values())) == 1
    assert program.json("get", "acme")["variables"] == {"base_url": oidc_server.issuer}
