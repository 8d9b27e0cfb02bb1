"""An agent with the Azure SDK for Python that holds no credential."""

import os
import sys
import time

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

scope = os.environ["SCOPE"]
refused = False
for credential in (DefaultAzureCredential(), ManagedIdentityCredential()):
    name = type(credential).__name__
    for call in ("first", "second"):
        began = time.monotonic()
        try:
            token = credential.get_token(scope)
        except ClientAuthenticationError as error:
            print(f"{name} refused after {(time.monotonic() - began) * 1000:.0f} ms: {error}", file=sys.stderr)
            refused = True
            break
        took = (time.monotonic() - began) * 1000
        print(f"{name} {call} token after {took:.0f} ms, good until {time.strftime('%H:%M:%S', time.gmtime(token.expires_on))}")
sys.exit(refused)
