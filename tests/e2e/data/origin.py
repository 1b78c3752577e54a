# SPDX-License-Identifier: GPL-2.0-or-later
# An HTTP origin for the proxy's tests: echoes requests, sends statuses, bytes, events and endless
# streams, and speaks enough WebSocket to shout one frame back.
import base64, hashlib, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Origin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status, data, kind="text/plain", **more):
        self.send_response(status)
        self.send_header("X-Origin", "yes")
        self.send_header("Set-Cookie", "a=b")
        if status == 302:
            self.send_header("Location", "/elsewhere")
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def stream(self, step, n):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        i = 0
        while n is None or i < n:
            self.wfile.write(f"data: {i}\n\n".encode())
            self.wfile.flush()
            time.sleep(step)
            i += 1
        self.close_connection = True

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        head = self.rfile.read(2)
        size = head[1] & 0x7F
        mask = self.rfile.read(4)
        text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))
        self.wfile.write(bytes([0x81, size]) + text.upper())
        self.close_connection = True

    def any(self):
        word = self.path.split("/")
        if self.path == "/ws":
            return self.websocket()
        data = self.body()
        if word[1] == "status":
            return self.answer(int(word[2]), f"status {word[2]}".encode())
        if word[1] == "sha256":
            return self.answer(200, hashlib.sha256(data).hexdigest().encode())
        if word[1] == "bytes":
            data = os.urandom(int(word[2]))
            return self.answer(200, data, X_SHA256=hashlib.sha256(data).hexdigest())
        if self.path == "/events":
            return self.stream(0.4, 3)
        if self.path == "/endless":
            try:
                return self.stream(0.2, None)
            except OSError:
                print("endless: closed", flush=True)
                self.close_connection = True
                return None
        told = {
            "method": self.command, "path": self.path, "body": data.decode(),
            "headers": {k.lower(): v for k, v in self.headers.items()},
        }
        return self.answer(200, json.dumps(told).encode(), "application/json")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = any

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Origin)
server.daemon_threads = True
print("ready", flush=True)
server.serve_forever()
