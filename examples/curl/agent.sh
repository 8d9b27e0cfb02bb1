#!/bin/sh
# An agent that needs a token and holds no credential.
set -eu
answer=$(curl --silent --show-error --fail-with-body --data grant_type=client_credentials --data-urlencode "scope=$SCOPE" "$TOKEN_URL") || {
  echo "$answer" >&2
  exit 1
}
case $answer in
*'"token_type":"Bearer"'*) echo "got a Bearer token for $SCOPE" ;;
*) echo "this is no token answer" >&2; exit 1 ;;
esac
