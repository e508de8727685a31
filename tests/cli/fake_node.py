"""A node that only says whether it is ready; what else it does is the setting `broker.rack` of its file.

`ready` (or none), `slow` (never ready), `dies` (one line, then exit 1), `quiet` (exit 3 without a word), `stubborn`
(ignores SIGTERM).
"""

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

settings = dict(
    line.split("=", 1) for line in Path(sys.argv[sys.argv.index("-c") + 1]).read_text().splitlines() if "=" in line
)
settings |= dict(text.split("=", 1) for text in sys.argv if "=" in text)
mode = settings.get("broker.rack", "ready").partition("@")
mode_name = mode[0] if mode[2] in ("", settings["node.id"]) else "ready"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_ready = mode_name != "slow"
        reasons = [] if is_ready else ["the metadata is not caught up"]
        content = json.dumps({"reasons": reasons, "data": [], "leader_id": 1}).encode()
        self.send_response(200 if is_ready else 503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


if mode_name == "dies":
    sys.stderr.write('{"event": "starting", "level": "info"}\nkraft node: the disk is full\n')
    sys.exit(1)
if mode_name == "quiet":
    sys.exit(3)
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: None if mode_name == "stubborn" else stopped.set())
server = HTTPServer(("127.0.0.1", int(settings["http.listeners"].rpartition(":")[2])), Handler)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
Path("metadata").mkdir(exist_ok=True)
Path("metadata", "journal").touch()
while not stopped.wait(0.02):
    pass
