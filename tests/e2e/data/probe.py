# SPDX-License-Identifier: GPL-2.0-or-later
#
# What an agent that wants out would try. Each line of standard input is a probe as JSON; each answer is a line.

import json
import os
import socket
import ssl
import struct
import sys
import time

TIMEOUT = 4


def outcome(fn):
    try:
        return fn()
    except ConnectionRefusedError:
        return 'refused'
    except ConnectionResetError:
        return 'reset'
    except socket.timeout:
        return 'timeout'
    except BrokenPipeError:
        return 'reset'
    except ssl.SSLError as e:
        return 'tls:' + (e.reason or 'eof')
    except OSError as e:
        return 'refused' if e.errno in (101, 113) else 'oserror:%s' % e.errno


def connect(p):
    return socket.create_connection((p['host'], p.get('port', 80)), TIMEOUT)


def read(s):
    data = s.recv(4096)
    return 'closed' if not data else 'got:' + data.decode('latin-1')[:60]


def tcp(p):
    with connect(p):
        return 'open'


def raw(p):
    """bytes as given, in pieces of a size, then what comes back"""
    with connect(p) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = p['data'].encode('latin-1')
        step = p.get('step', len(data)) or 1
        for i in range(0, len(data), step):
            s.sendall(data[i:i + step])
            if p.get('pause'):
                time.sleep(p['pause'])
        return read(s)


def hello(name):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    obj = ctx.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        obj.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def records(data, size):
    body = data[5:]
    return b''.join(data[:3] + struct.pack('>H', len(body[i:i + size])) + body[i:i + size]
                    for i in range(0, len(body), size))


def tls(p):
    """a ClientHello for a name; the far end echoes what it got"""
    data = hello(p.get('sni'))
    if p.get('records'):
        data = records(data, p['records'])
    if p.get('ech'):
        # extended_master_secret (23, empty) becomes encrypted_client_hello
        data = data.replace(b'\x00\x17\x00\x00', b'\xfe\x0d\x00\x00', 1)
    with connect(p) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = p.get('step', len(data)) or 1
        for i in range(0, len(data), step):
            s.sendall(data[i:i + step])
        got = b''
        while len(got) < len(data):
            part = s.recv(65536)
            if not part:
                return 'closed'
            got += part
        return 'echo' if got == data else 'other'


def udp(p):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect((p['host'], p['port']))
    s.send(p.get('data', 'x').encode('latin-1'))
    return 'got:' + s.recv(2048).decode('latin-1')[:40]


def question(name, qtype):
    labels = b''.join(bytes([len(x)]) + x for x in name.encode('latin-1').split(b'.')) + b'\0'
    return struct.pack('>HHHHHH', 4711, 0x0100, 1, 0, 0, 0) + labels + struct.pack('>HH', qtype, 1)


def dns(p):
    """-> rcode and addresses"""
    q = question(p['name'], p.get('type', 1))
    if p.get('tcp'):
        s = socket.create_connection((p.get('server', os.environ.get('GW', '10.214.0.1')), 53), TIMEOUT)
        s.settimeout(TIMEOUT)
        s.sendall(struct.pack('>H', len(q)) + q)
        n = struct.unpack('>H', s.recv(2))[0]
        r = s.recv(n)
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(TIMEOUT)
        s.sendto(q, (p.get('server', '10.214.0.1'), 53))
        r = s.recvfrom(4096)[0]
    n = struct.unpack('>H', r[6:8])[0]
    addrs = []
    at = 12
    while r[at]:
        at += 1 + r[at]
    at += 5
    for _ in range(n):
        while r[at]:
            if r[at] >= 192:
                at += 1
                break
            at += 1 + r[at]
        at += 1
        kind, _, _, length = struct.unpack('>HHIH', r[at:at + 10])
        at += 10
        if kind == 1 and length == 4:
            addrs.append(socket.inet_ntoa(r[at:at + 4]))
        at += length
    return 'rcode%d %s' % (r[3] & 15, ','.join(sorted(addrs)))


def sendraw(p):
    """an IP packet of one's own making"""
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, p['proto'])
    s.settimeout(2)
    if p.get('options'):
        s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes(p['options']))
    s.sendto(p.get('data', 'x' * 16).encode('latin-1'), (p['host'], 0))
    return 'sent'


def frame(p):
    """an Ethernet frame of one's own making"""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(('eth0', 0))
    s.send(bytes.fromhex(p['hex']))
    return 'sent'


KINDS = {'tcp': tcp, 'raw': raw, 'tls': tls, 'udp': udp, 'dns': dns, 'sendraw': sendraw, 'frame': frame}

for line in sys.stdin:
    probe = json.loads(line)
    print(json.dumps(outcome(lambda: KINDS[probe['kind']](probe))), flush=True)
