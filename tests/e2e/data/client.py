# SPDX-License-Identifier: GPL-2.0-or-later
# The client of seed 000: starts the server as its child, exercises it, stops it.
import urllib.request, json, time, subprocess, sys

server_proc = subprocess.Popen(
    [sys.executable, "/home/user/server.py"],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
)
BASE = "http://127.0.0.1:8000"


def get(path):
    req = urllib.request.Request(f"{BASE}{path}")
    with urllib.request.urlopen(req, timeout=5) as resp:
        return json.loads(resp.read().decode())


def post(path, data):
    body = json.dumps(data).encode()
    req = urllib.request.Request(
        f"{BASE}{path}", data=body,
        headers={"Content-Type": "application/json"}, method="POST",
    )
    with urllib.request.urlopen(req, timeout=5) as resp:
        return json.loads(resp.read().decode())


# Wait for server to start
print("Waiting for server to start...")
for attempt in range(10):
    try:
        get("/health")
        print("Server is ready!")
        break
    except Exception:
        time.sleep(0.5)
# Exercise the API
print("\n1. Health check:")
print(f" {get('/health')}")
print("\n2. Creating items:")
item1 = post("/items", {"name": "Widget Alpha"})
print(f" Created: {item1}")
item2 = post("/items", {"name": "Widget Beta"})
print(f" Created: {item2}")
print("\n3. Listing all items:")
print(f" {get('/items')}")
print("\n4. Getting item 1:")
print(f" {get('/items/1')}")
server_proc.kill()
print("\nServer stopped. All tests passed!")
