# SPDX-License-Identifier: GPL-2.0-or-later
# The HTTP service of seed 000: items in memory, standard library only.
import json
from http.server import HTTPServer, BaseHTTPRequestHandler

items = {}
next_id = 1


class APIHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self._respond(200, {"status": "ok"})
        elif self.path == "/items":
            self._respond(200, {"items": list(items.values())})
        elif self.path.startswith("/items/"):
            item_id = self.path.split("/")[-1]
            if item_id in items:
                self._respond(200, items[item_id])
            else:
                self._respond(404, {"error": "not found"})

    def do_POST(self):
        global items, next_id
        if self.path == "/items":
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            item = {"id": str(next_id), "name": body.get("name", "unnamed")}
            items[str(next_id)] = item
            next_id += 1
            self._respond(201, item)

    def _respond(self, status, data):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())

    def log_message(self, format, *args):
        pass  # Suppress default logging


if __name__ == "__main__":
    server = HTTPServer(("0.0.0.0", 8000), APIHandler)
    print("Server running on port 8000", flush=True)
    server.serve_forever()
