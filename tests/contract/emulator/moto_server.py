"""A moto server with a state folder, as a program of its own: ``python moto_server.py FOLDER``."""

from __future__ import annotations

import sys

from airflow_async_sm.emulator.state.folder import StateFolder
from airflow_async_sm.emulator.web import http_server


def main() -> None:
    """Serve until standard input says what to do at the end: ``save``, or anything else for a sudden end."""
    with StateFolder(sys.argv[1]) as folder:
        own = folder.load()
        server = http_server.HttpServer("127.0.0.1", 0)
        server.start(folder.guard(http_server.moto_application()))
        print(server.port, own, flush=True)
        for line in sys.stdin:
            if line.strip() == "stop":
                break
            folder.save({"said": line.strip()})
            print("saved", flush=True)
        server.stop()


if __name__ == "__main__":
    main()
