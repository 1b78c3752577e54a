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
SO_RCVBUFFORCE = 33
ROOM = 16 << 20     # a flood is seen whole, however slowly this program runs


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
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    s.bind(('0.0.0.0', port))
    while True:
        data, anc, _, peer = s.recvmsg(65536, 1024)
        to = socket.inet_ntoa(anc[0][2][8:12])
        note(proto='udp', to=to, port=port, peer=peer[0], what='data', data=data[:200].decode('latin-1'))
        info = anc[0][2][:4] + anc[0][2][8:12] + b'\0\0\0\0'
        threading.Thread(target=answer, args=(s, port, data, info, peer), daemon=True).start()


# --- what no socket would see: every packet that is no part of a connection ---

def sniff():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    s.bind(('eth0', 0))
    while True:
        frame, address = s.recvfrom(2048)
        if address[2] == socket.PACKET_OUTGOING or len(frame) < 34:
            continue
        kind = int.from_bytes(frame[12:14], 'big')
        if kind == 0x86dd:
            # the host's own end is a neighbour like any other; what is routed is not
            if frame[38] != 0xff and frame[38:40] != b'\xfe\x80':
                note(proto='ipv6', to=socket.inet_ntop(socket.AF_INET6, frame[38:54]), what='packet')
            continue
        if kind != 0x0800:
            if kind != 0x0806:
                note(proto='%04x' % kind, to='ethernet', what='packet')
            continue
        head = (frame[14] & 15) * 4
        to, proto = socket.inet_ntoa(frame[30:34]), frame[23]
        rest = frame[14 + head:]
        port = int.from_bytes(rest[2:4], 'big') if proto in (6, 17) else 0
        odd = head != 20 or int.from_bytes(frame[20:22], 'big') & 0x3fff
        # questions and connections have rows of their own, except what data/probe.py makes up (it numbers from 1); the host
        # tells far ends that nobody is there (ICMP), and routers which groups it listens to (IGMP)
        known = (proto == 17 and port == 53) or (proto == 1 and rest[0] in (3, 11)) or (proto == 2 and to == '224.0.0.22') or \
                (proto == 6 and rest[13] & 0x3f != 2 and rest[4:8] != b'\0\0\0\1')
        if known and (proto == 2 or not odd):
            continue
        note(proto=proto, to=to, port=port, peer=socket.inet_ntoa(frame[26:30]), what='packet')


# --- DNS: one answer for each name below, good for an hour (a slow machine is no expiry); every question is logged ---

NAMES = {
    'good.example.com': ['198.51.100.10'],
    'other.example.com': ['198.51.100.11'],
    'a.wild.example.com': ['198.51.100.20'],
    'wild.example.com': ['198.51.100.21'],
    'shared.example.com': ['198.51.100.10'],
    'evil.example.org': ['198.51.100.66'],
    'private.example.com': ['10.0.0.1'],
    'loop.example.com': ['127.0.0.1'],
    'metadata.example.com': ['169.254.169.254'],
    'host.example.com': ['203.0.113.1'],
    'mixed.example.com': ['10.0.0.1', '198.51.100.12'],
    'api.github.com': ['198.51.100.40'],
    'xn--bcher-kva.example.com': ['198.51.100.30'],
    'brief.example.com': ['198.51.100.31'],
}
# n0, n1, … of these: 28 addresses each, which fit into a datagram
for i in range(200):
    NAMES['n%d.many.example.com' % i] = ['11.%d.%d.%d' % (1 + i // 100, i % 100, j + 1) for j in range(28)]
SECONDS = {'brief.example.com': 1}
CNAMES = {
    'alias.example.com': 'evil.example.org',
    'ring.example.com': 'ring2.example.com',
    'ring2.example.com': 'ring.example.com',
}


def qname(data, at):
    labels = []
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode('latin-1'))
        at += 1 + data[at]
    return '.'.join(labels), at + 1


def encode(name):
    return b''.join(bytes([len(x)]) + x.encode() for x in name.split('.')) + b'\0'


def dns_answer(data, to, proto):
    name, at = qname(data, 12)
    qtype = int.from_bytes(data[at:at + 2], 'big')
    note(proto='dns', to=to, port=53, name=name, qtype=qtype, over=proto, what='query')
    key = name.lower()
    rows = b''
    count = 0
    while key in CNAMES and count < 4:
        rows += encode(key) + b'\0\5\0\1\0\0\0\x3c' + len(encode(CNAMES[key])).to_bytes(2, 'big') + encode(CNAMES[key])
        key = CNAMES[key]
        count += 1
    if qtype == 1:
        for addr in NAMES.get(key, []):
            owner = b'\xc0\x0c' if key == name.lower() else encode(key)
            rows += owner + b'\0\1\0\1' + SECONDS.get(key, 3600).to_bytes(4, 'big') + b'\0\4' + socket.inet_aton(addr)
            count += 1
    known = key in NAMES or key in CNAMES
    flags = 0x8180 if known else 0x8183
    return data[:2] + flags.to_bytes(2, 'big') + b'\0\1' + count.to_bytes(2, 'big') + b'\0\0\0\0' + data[12:at + 4] + rows


def dns_udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    s.bind(('0.0.0.0', 53))
    while True:
        data, anc, _, peer = s.recvmsg(4096, 1024)
        to = socket.inet_ntoa(anc[0][2][8:12])
        info = anc[0][2][:4] + anc[0][2][8:12] + b'\0\0\0\0'
        try:
            s.sendmsg([dns_answer(data, to, 'udp')], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, peer)
        except (OSError, IndexError) as e:
            note(proto='dns', what='bad', data=repr(e))


threading.Thread(target=dns_udp, daemon=True).start()
threading.Thread(target=sniff, daemon=True).start()
for p in (22, 80, 443, 5000, 8080, 853):
    threading.Thread(target=tcp, args=(p,), daemon=True).start()
for p in (123, 443, 5000, 5001, 1053):
    threading.Thread(target=udp, args=(p,), daemon=True).start()
note(what='ready')
select.select([], [], [])
