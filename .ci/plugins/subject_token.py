"""Asks for the subject token of the executable-sourced credential in the file named, twice."""
import sys

import google.auth

credentials, _ = google.auth.load_credentials_from_file(sys.argv[1])
for _ in range(2):
    print(f"{type(credentials).__name__}: {'a token' if credentials.retrieve_subject_token(None).count('.') == 2 else 'no token'}")
