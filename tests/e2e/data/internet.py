# SPDX-License-Identifier: GPL-2.0-or-later
#
# The whole internet in one network namespace: every address answers (the namespace routes all of them to itself), TCP
# on a few ports, UDP on others, and whatever comes is a line of JSON in the log given as the first argument. TCP 80 and
# 8080 speak HTTP and answer with the address they were reached at and the Host they were asked for.

import json
import select
import socket
import sys
import threading
import time

log = open(sys.argv[1], 'a', buffering=1)
lock = threading.Lock()


def note(**row):
    with lock:
        log.write(json.dumps(row) + '\n')


def serve(conn, peer, port):
    name = conn.getsockname()[0]
    conn.settimeout(20)
    head = b''
    note(proto='tcp', to=name, port=port, peer=peer[0], what='open')
    try:
        if port == 22:
            conn.sendall(b'SSH-2.0-test\r\n')
        while True:
            data = conn.recv(65536)
            if not data:
                break
            head += data
            note(proto='tcp', to=name, port=port, peer=peer[0], what='data', data=data[:2000].decode('latin-1'))
            while port in (80, 8080) and b'\r\n\r\n' in head:
                request, head = head.split(b'\r\n\r\n', 1)
                body = f'hello from {name}:{port}\n'.encode()
                conn.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s'
                             % (len(body), body))
            if port in (5000, 443):
                conn.sendall(data)
    except OSError:
        pass
    conn.close()
    note(proto='tcp', to=name, port=port, peer=peer[0], what='close')


def tcp(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('0.0.0.0', port))
    s.listen(64)
    while True:
        conn, peer = s.accept()
        threading.Thread(target=serve, args=(conn, peer, port), daemon=True).start()


IP_PKTINFO = 8


# Port 5001 goes on talking, whether anybody still answers or not
def answer(s, port, data, info, peer):
    for _ in range(150 if port == 5001 else 1):
        try:
            s.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, peer)
        except OSError:
            pass
        if port == 5001:
            time.sleep(0.2)


def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    s.bind(('0.0.0.0', port))
    while True:
        data, anc, _, peer = s.recvmsg(65536, 1024)
        to = socket.inet_ntoa(anc[0][2][8:12])
        note(proto='udp', to=to, port=port, peer=peer[0], what='data', data=data[:200].decode('latin-1'))
        info = anc[0][2][:4] + anc[0][2][8:12] + b'\0\0\0\0'
        threading.Thread(target=answer, args=(s, port, data, info, peer), daemon=True).start()


for p in (22, 80, 443, 5000, 8080, 853):
    threading.Thread(target=tcp, args=(p,), daemon=True).start()
for p in (123, 443, 5000, 5001, 1053):
    threading.Thread(target=udp, args=(p,), daemon=True).start()
note(what='ready')
select.select([], [], [])
