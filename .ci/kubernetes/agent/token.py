"""Asks the broker for a token and prints what is in it: token.py SCOPE [tcp|unix|keyless] [USER_TOKEN]."""

import base64
import http.client
import json
import os
import socket
import sys
import urllib.parse


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["CREDFREE_SOCKET"])


scope, way, user = (*sys.argv[1:], *("", "tcp", "")[len(sys.argv) - 1:])
form = {"grant_type": "client_credentials", "scope": scope}
if user:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": user,
        "requested_token_use": "on_behalf_of", "scope": scope,
    }
connection = Unix("localhost", timeout=30) if way == "unix" else http.client.HTTPConnection("127.0.0.1", 7400, timeout=30)
headers = {"Content-Type": "application/x-www-form-urlencoded"}
if (key := os.environ["IDENTITY_HEADER"]) != "none" and way != "keyless":
    headers["Authorization"] = "Bearer " + key
connection.request("POST", "/oauth2/token", urllib.parse.urlencode(form), headers)
answer = connection.getresponse()
body = json.loads(answer.read())
if answer.status != 200:
    print(answer.status, body.get("error"), body.get("hint"))
    sys.exit(1)
claims = json.loads(base64.urlsafe_b64decode(body["access_token"].split(".")[1] + "=="))
print(answer.status, *(f"{name}={claims.get(name)}" for name in ("aud", "appid", "tid", "idtyp", "roles", "scp", "oid")))
