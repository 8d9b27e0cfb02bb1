"""What an agent might try, to get at what is not its own. Prints what it got, a line each."""

import os
import pathlib
import urllib.error
import urllib.request

for folder in ("/var/run/secrets", "/run/credfree", "/proc", "/etc/credfree"):
    for at, folders, files in os.walk(folder):
        if at.startswith("/proc"):
            folders[:] = [name for name in folders if at == "/proc" and name.isdigit()]
            continue
        for name in files:
            path = pathlib.Path(at, name)
            kind = "socket" if path.is_socket() else "file"
            print("found", kind, path)
uid = os.getuid()
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if process.stat().st_uid != uid:
            print("found process of uid", process.stat().st_uid)
    except FileNotFoundError:
        pass
socket = pathlib.Path(os.environ["CREDFREE_SOCKET"])
try:
    socket.unlink()
    print("removed", socket)
except OSError as error:
    print("kept from removing its socket:", error.strerror)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for path in ("/issuances", "/state"):
    try:
        direct.open("http://127.0.0.1:7401" + path)
        print("found what operators see at", path)
    except urllib.error.HTTPError as error:
        print("kept from what operators see:", error.code)
