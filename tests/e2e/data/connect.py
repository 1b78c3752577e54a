# SPDX-License-Identifier: GPL-2.0-or-later
# The agent script of seed 002: which hosts of a test plan can be reached by TCP?
import socket
import json


def test_connection(host, port, timeout=5):
    try:
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(timeout)
        s.connect((host, port))
        s.close()
        return {"host": host, "port": port, "status": "CONNECTED"}
    except Exception as e:
        return {"host": host, "port": port, "status": f"BLOCKED: {e}"}


with open("/tmp/test_plan.json") as f:
    test_plan = json.load(f)
results = []
print("=== Network Connectivity Test Results ===")
for test in test_plan["targets"]:
    result = test_connection(test["host"], test["port"])
    status_icon = "OK" if result["status"] == "CONNECTED" else "XX"
    print(f" [{status_icon}] {result['host']}:{result['port']} -> {result['status']}")
    results.append(result)
print(f"Tested {len(results)} targets.")
with open("/tmp/results.json", "w") as f:
    json.dump(results, f, indent=2)
