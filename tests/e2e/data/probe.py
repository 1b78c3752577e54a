# SPDX-License-Identifier: GPL-2.0-or-later
#
# What an agent that wants out would try. Each line of standard input is a probe as JSON; each answer is a line. With two
# arguments, FIFOs, the lines come and go there: starting Python once is what makes hundreds of probes bearable.

import fcntl
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
    return socket.create_connection((p['host'], p.get('port', 80)), p.get('timeout', TIMEOUT))


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
    if p.get('swap'):
        # another name of the same length, which the library would not have sent
        old, new = (x.encode('latin-1') for x in p['swap'])
        assert len(old) == len(new) and old in data
        data = data.replace(old, new)
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


def question(name, qtype, qclass=1, count=1):
    labels = b''.join(bytes([len(x)]) + x for x in name.encode('latin-1').split(b'.')) + b'\0'
    return struct.pack('>HHHHHH', 4711, 0x0100, count, 0, 0, 0) + (labels + struct.pack('>HH', qtype, qclass)) * count


def dns(p):
    """-> rcode and addresses"""
    q = question(p['name'], p.get('type', 1), p.get('class', 1), p.get('questions', 1))
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
    asked, n = struct.unpack('>HH', r[4:8])
    addrs = []
    at = 12
    for _ in range(asked):
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


def ping(p):
    """an echo request, and whether it is answered"""
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    s.settimeout(10)
    s.sendto(b'\x08\x00\xf7\xff\x00\x00\x00\x00', (p['host'], 0))
    while True:
        packet, address = s.recvfrom(2048)
        if address[0] == p['host'] and packet[(packet[0] & 15) * 4] == 0:
            return 'answered'


def frame(p):
    """an Ethernet frame of one's own making"""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(('eth0', 0))
    s.send(bytes.fromhex(p['hex']))
    return 'sent'


def checksum(data):
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data[:len(data) // 2 * 2])) + (data[-1] << 8 if len(data) % 2 else 0)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def interface():
    """-> MAC and address of eth0"""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name = struct.pack('256s', b'eth0')
    return (fcntl.ioctl(s, 0x8927, name)[18:24], socket.inet_ntoa(fcntl.ioctl(s, 0x8915, name)[20:24]))


GATEWAY = bytes.fromhex('02dec1aa0001')


def put(ether, mac=None, vlan=None):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(('eth0', 0))
    tag = struct.pack('>HH', 0x8100, vlan) if vlan else b''
    s.send(GATEWAY + (bytes.fromhex(mac) if mac else interface()[0]) + tag + ether)


def own(p):
    """a frame with an IPv4 packet, right in everything but what is asked for"""
    src = socket.inet_aton(p.get('src', interface()[1]))
    dst = socket.inet_aton(p['dst'])
    if 'flags' in p:
        body = struct.pack('>HHIIBBHHH', 4000, p['port'], 1, 1, 0x50, p['flags'], 1024, 0, 0)
        proto, at = 6, 16
    else:
        body = struct.pack('>HHHH', 4000, p['port'], 48, 0) + b'x' * 40
        proto, at = 17, 6
    pseudo = src + dst + struct.pack('>BBH', 0, proto, len(body))
    body = body[:at] + struct.pack('>H', checksum(pseudo + body)) + body[at + 2:]
    options = bytes(p.get('options', []))
    pieces = [[f, a, b] for f, a, b in p.get('frags', [[p.get('frag', 0), 0, p.get('cut', len(body) + 20) - 20]])]
    for frag, start, end in pieces:
        part = body[start:end]
        head = struct.pack('>BBHHHBBH', 0x45 + len(options) // 4, 0, 20 + len(options) + len(part), 99, frag, 64, proto, 0)
        head += src + dst + options
        head = head[:10] + struct.pack('>H', checksum(head)) + head[12:]
        put(b'\x08\x00' + head + part, p.get('mac'), p.get('vlan'))
    return 'sent'


def ip6(p):
    """ICMPv6, as a neighbour or a router would say it"""
    src = socket.inet_pton(socket.AF_INET6, 'fe80::1')
    dst = socket.inet_pton(socket.AF_INET6, p.get('dst', 'ff02::1'))
    if p['type'] == 134:
        body = struct.pack('>BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
        body += struct.pack('>BBBBIII', 3, 4, 64, 0xc0, 86400, 86400, 0) + socket.inet_pton(socket.AF_INET6, '2001:db8:bad::')
    elif p['type'] == 133:
        body = struct.pack('>BBHI', 133, 0, 0, 0)
    elif p['type'] == 128:
        body = struct.pack('>BBHHH', 128, 0, 0, 1, 1) + b'x' * 16
    else:
        body = struct.pack('>BBHI', p['type'], 0, 0, 0x20000000) + src + b'\x02\x01' + interface()[0]
    pseudo = src + dst + struct.pack('>II', len(body), 58)
    body = body[:2] + struct.pack('>H', checksum(pseudo + body)) + body[4:]
    put(b'\x86\xdd' + struct.pack('>IHBB', 0x60000000, len(body), 58, 255) + src + dst + body)
    return 'sent'


def many(p):
    """as many datagrams, connection attempts or questions as asked for, as fast as it goes -> how many were answered"""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    count = 0
    if p['what'] == 'syn':
        mac, src = interface()
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        out.bind(('eth0', 0))
        addrs = socket.inet_aton(src) + socket.inet_aton(p['host'])
        ip = struct.pack('>BBHHHBBH', 0x45, 0, 40, 1, 0, 64, 6, 0) + addrs
        ip = ip[:10] + struct.pack('>H', checksum(ip)) + ip[12:]
        for i in range(p['n']):
            tcp_ = struct.pack('>HHIIBBHHH', 1024 + i % 60000, p['port'], i, 0, 0x50, 2, 1024, 0, 0)
            sum_ = checksum(addrs + struct.pack('>BBH', 0, 6, 20) + tcp_)
            out.send(GATEWAY + mac + b'\x08\x00' + ip + tcp_[:16] + struct.pack('>H', sum_) + tcp_[18:])
        return 'done'
    if p['what'] == 'flows':
        for i in range(p['n']):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind(('0.0.0.0', 2000 + i))
            try:
                one.sendto(b'flow', (p['host'], p['port']))
            except OSError:
                pass
            one.close()
        return 'done'
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    for i in range(p['n']):
        s.sendto(question(p['name'].replace('#', str(i)), 1), ('10.214.0.1', 53))
        if p.get('slow'):
            time.sleep(p['slow'])
    try:
        while True:
            r = s.recv(4096)
            count += 1 if r[3] & 15 == p.get('rcode', 0) else 0
    except OSError:
        return 'answered:%d' % count


KINDS = {'tcp': tcp, 'raw': raw, 'tls': tls, 'udp': udp, 'dns': dns, 'sendraw': sendraw, 'ping': ping, 'frame': frame, 'own': own, 'ip6': ip6,
         'many': many}

if len(sys.argv) == 3:
    # read and write: neither end is at its end when nobody has it open
    source = os.fdopen(os.open(sys.argv[1], os.O_RDWR), 'r')
    sink = os.fdopen(os.open(sys.argv[2], os.O_RDWR), 'w')
else:
    source, sink = sys.stdin, sys.stdout
for line in source:
    probe = json.loads(line)
    print(json.dumps(outcome(lambda: KINDS[probe['kind']](probe))), file=sink, flush=True)
