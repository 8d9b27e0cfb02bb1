"""An agent with the Microsoft 365 Agents SDK that holds no credential."""

import asyncio
import base64
import json
import os
import sys
import time

from microsoft_agents.authentication.entra_auth_sidecar import SidecarAuth, SidecarAuthError
from microsoft_agents.hosting.core import AgentAuthConfiguration

TENANT, AGENT, USER = os.environ["TENANT_ID"], os.environ["AGENT_ID"], os.environ["AGENT_USER"]
SCOPE = os.environ["SCOPE"]


def whose(token):
    """What a token says about whom it is of. An agent has no need to know; a reader has."""
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    of_user = claims.get("scp", "/") != "/"  # Entra writes a slash where an agent identity has no scope
    return f"client {claims.get('appid') or claims.get('azp')}, {'user ' + claims['oid'] if of_user else 'an application'}"


async def main():
    provider = SidecarAuth(AgentAuthConfiguration(tenant_id=TENANT, scopes=[SCOPE]))
    if not await provider.is_healthy():
        sys.exit("the sidecar does not answer")
    refused = False
    for name, ask in (
        ("connection token", lambda: provider.get_access_token("", [SCOPE])),
        ("agent instance token", lambda: provider.get_agentic_instance_token(TENANT, AGENT)),
        ("agent user token", lambda: provider.get_agentic_user_token(TENANT, AGENT, USER, [SCOPE])),
    ):
        began = time.monotonic()
        try:
            token = await ask()
        except (SidecarAuthError, ValueError) as error:
            print(f"{name} refused after {(time.monotonic() - began) * 1000:.0f} ms: {error}", file=sys.stderr)
            refused = True
            continue
        token = token[0] if isinstance(token, tuple) else token
        print(f"{name} after {(time.monotonic() - began) * 1000:.0f} ms: {whose(token)}")
    await provider.close()
    return refused


sys.exit(asyncio.run(main()))
