"""Microsoft Entra ID in small: discovery documents, and tokens for a client secret or a federated assertion.

Pure: forms in, answers out. Tokens look like JSON web tokens, are signed with nothing and known by heart; a
token is good while it is in the table and its time has not run out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from testbed.azure.errors import ArmError, Json
from testbed.azure.store import Guids

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TokenError(Exception):
    """An OAuth error answer."""

    def __init__(self, status: int, error: str, *, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.body: Json = {
            "error": error,
            "error_description": f"AADSTS{code}: {text}",
            "error_codes": [code],
        }


@dataclass(slots=True)
class Identity:
    """One tenant with one application, and the tokens given to it."""

    tenant_id: str
    client_id: str
    client_secret: str
    federated_token: str
    now: Callable[[], float]
    guids: Guids
    token_lifetime: float = 3600.0
    issued: dict[str, float] = field(default_factory=dict)

    def openid_configuration(self, authority: str) -> Json:
        """The discovery document of the tenant; `authority` is the base URL that the client reached."""
        base = f"{authority}/{self.tenant_id}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "issuer": f"{base}/v2.0",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "tenant_region_scope": None,
        }

    def instance_discovery(self, authority: str, host: str) -> Json:
        """Which authorities there are: this one alone."""
        return {
            "tenant_discovery_endpoint": (f"{authority}/{self.tenant_id}/v2.0/.well-known/openid-configuration"),
            "api-version": "1.1",
            "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        }

    def knows(self, tenant: str) -> bool:
        return tenant.lower() == self.tenant_id.lower()

    def token(self, tenant: str, form: Mapping[str, str]) -> Json:
        """Answer a token request.

        Raises TokenError with the code that Entra ID gives.
        """
        if not self.knows(tenant):
            text = f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            raise TokenError(400, "invalid_request", code=90002, text=text)
        if form.get("grant_type") != "client_credentials":
            text = "The grant type is not supported: this authority knows client_credentials alone."
            raise TokenError(400, "unsupported_grant_type", code=70003, text=text)
        if form.get("client_id", "").lower() != self.client_id.lower():
            text = f"Application with identifier '{form.get('client_id', '')}' was not found in the directory."
            raise TokenError(400, "unauthorized_client", code=700016, text=text)
        self._check_proof(form)
        token = self._mint()
        lifetime = int(self.token_lifetime)
        return {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }

    def _check_proof(self, form: Mapping[str, str]) -> None:
        if form.get("client_assertion"):
            known = form["client_assertion"] == self.federated_token
            if not known or form.get("client_assertion_type") != _ASSERTION_TYPE:
                text = "No matching federated identity record found for presented assertion."
                raise TokenError(400, "invalid_client", code=700213, text=text)
        elif form.get("client_secret") != self.client_secret:
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client "
                "secret "
                f"value, not the client secret ID, for a secret added to app '{self.client_id}'."
            )
            raise TokenError(401, "invalid_client", code=7000215, text=text)

    def _mint(self) -> str:
        expires = self.now() + self.token_lifetime
        claims = {
            "aud": "https://management.azure.com",
            "iss": f"https://sts.windows.net/{self.tenant_id}/",
            "appid": self.client_id,
            "oid": self.client_id,
            "tid": self.tenant_id,
            "exp": int(expires),
            "uti": self.guids.next("token"),
        }
        token = ".".join((_part({"typ": "JWT", "alg": "none"}), _part(claims), "emulated"))
        self.issued[token] = expires
        return token

    def expire_all(self) -> None:
        """Make every token given so far a token of yesterday."""
        self.issued = dict.fromkeys(self.issued, self.now())

    def principal(self, authorization: str | None) -> str:
        """Who sends this header.

        Raises ArmError 401 in ARM's three ways: no token, an unknown one, one whose time has run out.
        """
        if not authorization or not authorization.lower().startswith("bearer "):
            text = "Authentication failed. The 'Authorization' header is missing."
            raise self._unauthorized("AuthenticationFailed", text, "missing 'Authorization' header")
        token = authorization[7:].strip()
        expires = self.issued.get(token)
        if expires is None:
            raise self._unauthorized("InvalidAuthenticationToken", "The access token is invalid.", "invalid token")
        if expires <= self.now():
            text = "The access token expiry UTC time is earlier than current UTC time."
            raise self._unauthorized("ExpiredAuthenticationToken", text, "expired token")
        return self.client_id

    def _unauthorized(self, code: str, text: str, why: str) -> ArmError:
        challenge = (
            f'Bearer authorization_uri="https://login.microsoftonline.com/{self.tenant_id}", '
            'error="invalid_token", '
            f'error_description="The authentication failed because of {why}."'
        )
        return ArmError(401, code, text, headers={"WWW-Authenticate": challenge, "x-ms-failure-cause": "gateway"})


def _part(content: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
