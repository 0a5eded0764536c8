# SPDX-License-Identifier: Apache-2.0
"""What a program in a sandbox does with the network, one deed for each first argument."""

import errno
import hashlib
import os
import random
import selectors
import socket
import struct
import sys
import threading
import time

IP_FREEBIND, IPV6_FREEBIND, IP_OPTIONS = 15, 78, 4
ECHO_PORT = 9999


def connect(host, port, limit=None):
    return socket.create_connection((host, int(port)), timeout=limit and float(limit))


def read_all(stream):
    data = b""
    while block := stream.recv(1 << 16):
        data += block
    return data


def greet(host, port="7004", limit=None):
    """Prints the server's greeting."""
    with connect(host, port, limit) as stream:
        print(read_all(stream).decode().strip())


def together(*hosts):
    """Greets several hosts at once."""
    lines = {}

    def one(host):
        try:
            with connect(host, 7004) as stream:
                lines[host] = read_all(stream).decode().strip()
        except OSError as error:
            lines[host] = errno.errorcode.get(error.errno, str(error))

    threads = [threading.Thread(target=one, args=[host]) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for host in hosts:
        print(host, lines[host])


def datagram(host, text, limit="5", port=ECHO_PORT):
    """Sends one datagram and prints the reply."""
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    family, kind, _, _, address = found[0]
    with socket.socket(family, kind) as stream:
        stream.settimeout(float(limit))
        stream.connect(address)
        stream.send(text.encode())
        print(stream.recv(2048).decode())


KINDS = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65, "ANY": 255}


def query(servers, name, kinds, transports="udp"):
    """Asks name servers; prints the code, the number of answers and the first address."""
    for server in servers.split(","):
        for transport in transports.split(","):
            for kind in kinds.split(","):
                print(kind, query_one(server, name, KINDS[kind], transport))


def query_one(server, name, kind, transport):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    message = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels
    message += struct.pack("!BHH", 0, kind, 1)
    if transport == "udp":
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stream:
            stream.settimeout(10)
            stream.connect((server, 53))
            stream.send(message)
            reply = stream.recv(4096)
    else:
        with connect(server, 53, 10) as stream:
            stream.sendall(struct.pack("!H", len(message)) + message)
            (length,) = struct.unpack("!H", stream.recv(2))
            reply = b""
            while len(reply) < length:
                reply += stream.recv(4096)
    _, flags, _, answers, _, _ = struct.unpack("!HHHHHH", reply[:12])
    data = reply[12 + len(labels) + 5 :]
    shown = ""
    if answers and kind == 1:
        shown = " " + socket.inet_ntoa(data[12:16])
    return f"code {flags & 15}, {answers} answers{shown}"


def resolve(name):
    """Prints the addresses that the C library finds."""
    found = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    print(*sorted({address[0] for *_, address in found}))


def half_close(host, length):
    with connect(host, 7001) as stream:
        stream.sendall(bytes(int(length)))
        stream.shutdown(socket.SHUT_WR)
        print(read_all(stream).decode().strip())


def reset(host):
    with connect(host, 7002) as stream:
        stream.sendall(b"go\n")
        try:
            stream.recv(1)
            print("end of the stream")
        except ConnectionResetError:
            print("reset")


def abort(host):
    """Resets a connection after some bytes have arrived."""
    with connect(host, 7001) as stream:
        stream.sendall(b"abc")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    print("aborted")


def mark(value):
    """Gives a socket the mark that the gateway gives its own packets."""
    with socket.socket() as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(value))
    print("marked")


def bulk(host, length):
    digest = hashlib.sha256()
    with connect(host, 7003) as stream:
        stream.sendall(length.encode() + b"\n")
        total = 0
        while block := stream.recv(1 << 18):
            digest.update(block)
            total += len(block)
    expected = hashlib.sha256()
    block, left = bytes(range(256)) * 256, int(length)
    while left > 0:
        expected.update(block[:left])
        left -= len(block)
    print(total, "same" if digest.digest() == expected.digest() else "different")


def goodbye(host):
    """Reads the server's end, then writes."""
    with connect(host, 7005) as stream:
        print(read_all(stream).decode().strip())
        stream.sendall(b"and thanks")


def flood(host, count):
    """Begins many connections at once; each reads its greeting."""
    count = int(count)
    address = socket.getaddrinfo(host, 7004, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    waiting = selectors.DefaultSelector()
    results = {}
    for _ in range(count):
        stream = socket.socket()
        stream.setblocking(False)
        stream.connect_ex(address)
        waiting.register(stream, selectors.EVENT_WRITE)
    while waiting.get_map():
        for key, ready in waiting.select():
            stream = key.fileobj
            if ready & selectors.EVENT_WRITE:
                error = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error == 0:
                    waiting.modify(stream, selectors.EVENT_READ)
                    continue
                word = errno.errorcode[error]
            else:
                try:
                    word = "greeted" if stream.recv(100).startswith(b"hello") else "ended"
                except OSError as error:
                    word = errno.errorcode[error.errno]
            results[word] = results.get(word, 0) + 1
            waiting.unregister(stream)
            stream.close()
    print(*(f"{count} {word}" for word, count in sorted(results.items())))


def datagram_flood(host, count):
    """Sends a datagram from each of many ports, in turn, and counts the replies."""
    address = socket.getaddrinfo(host, ECHO_PORT, type=socket.SOCK_DGRAM)[0][4]
    replies = 0
    for number in range(int(count)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(5)
            stream.bind(("0.0.0.0", 20000 + number))
            stream.connect(address)
            stream.send(b"%d" % number)
            replies += stream.recv(100) == b"%d" % number
    print(replies, "replies")


def datagram_sizes(host):
    """Sends datagrams of several sizes, and a burst that the kernel cuts into datagrams."""
    address = socket.getaddrinfo(host, ECHO_PORT, type=socket.SOCK_DGRAM)[0][4]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(5)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        stream.connect(address)
        for size in [0, 1, 1472, 1473, 9000, 60000]:
            stream.send(bytes(size))
            print(size, "returned" if stream.recv(70000) == bytes(size) else "changed")
        udp_segment = 103
        stream.setsockopt(socket.IPPROTO_UDP, udp_segment, 1000)
        stream.send(b"".join(bytes([number]) * 1000 for number in range(4)))
        replies = sorted(stream.recv(70000) for _ in range(4))
        print("burst", [(reply[0], len(reply)) for reply in replies])


def odd_clients(host):
    """Connects in ways that few programs use; each prints what the server says."""
    address = socket.getaddrinfo(host, 7004, socket.AF_INET, socket.SOCK_STREAM)[0][4]

    def prepared(words, protocol=0, prepare=lambda stream: None, begin=socket.socket.connect):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as stream:
                stream.settimeout(5)
                prepare(stream)
                begin(stream, address)
                print(words, read_all(stream).decode().strip())
        except OSError as error:
            print(words, errno.errorcode.get(error.errno, type(error).__name__))

    multipath = 262
    prepared("multipath", multipath)

    def with_early_data(stream, to):
        stream.settimeout(None)
        # The server reads all of it: one that closes with unread data resets the connection.
        stream.sendto(b"early", socket.MSG_FASTOPEN, (to[0], 7001))
        stream.shutdown(socket.SHUT_WR)

    prepared("fast open", begin=with_early_data)
    maximum = (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 200)
    prepared("small segments", prepare=lambda stream: stream.setsockopt(*maximum))

    def from_one_port(stream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stream.bind(("0.0.0.0", 40404))

    for _ in range(3):
        prepared("same port", prepare=from_one_port)


def ping(host, limit="5"):
    """Sends echo requests until one is answered or refused."""
    address = socket.getaddrinfo(host, 0, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as stream:
        stream.settimeout(0.3)
        stream.connect(address)
        for number in range(int(float(limit) / 0.3)):
            body = struct.pack("!BBHHH", 8, 0, 0, 0, number) + b"payload"
            total = sum(struct.unpack(f"!{len(body + bytes(1)) // 2}H", body + bytes(1)))
            total = (total & 0xFFFF) + (total >> 16)
            stream.send(body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:])
            try:
                reply = stream.recv(1000)
            except TimeoutError:
                continue
            print("reply", reply[8:].decode())
            return
        print("no reply")


def keep_many(host, count):
    """Opens many connections one after another, and uses them when all are open or refused."""
    streams, refused = [], 0
    for _ in range(int(count)):
        try:
            streams.append(connect(host, 7001, 5))
        except ConnectionRefusedError:
            refused += 1
    for stream in streams:
        stream.sendall(b"x")
        stream.shutdown(socket.SHUT_WR)
    served = sum(read_all(stream) == b"received 1\n" for stream in streams)
    print(f"{served} served, {refused} refused")


def scan(host, count):
    """Begins connections to many ports at once."""
    base = socket.getaddrinfo(host, 0, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    waiting = selectors.DefaultSelector()
    results = {}
    for port in range(20000, 20000 + int(count)):
        stream = socket.socket()
        stream.setblocking(False)
        stream.connect_ex((base, port))
        waiting.register(stream, selectors.EVENT_WRITE)
    while waiting.get_map():
        for key, _ in waiting.select():
            error = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            word = errno.errorcode.get(error, "connected")
            results[word] = results.get(word, 0) + 1
            waiting.unregister(key.fileobj)
            key.fileobj.close()
    print(*(f"{count} {word}" for word, count in sorted(results.items())))


def first_packets(count):
    """Begins connections, each to another destination, and ends each at once."""
    begun = 0
    for number in range(int(count)):
        with socket.socket() as stream:
            stream.setblocking(False)
            dest = (f"203.0.113.{number % 250}", 10000 + number // 250)
            begun += stream.connect_ex(dest) == errno.EINPROGRESS
    print(begun, "begun")


def garbage(server):
    """Sends what is no query to a name server, then waits for it to close the connection."""
    random.seed(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.connect((server, 53))
        for size in [0, 1, 11, 12, 13, 512, 1400, 60000] * 50:
            stream.send(random.randbytes(size))
    long = b"\xff\xff" + random.randbytes(65535)
    for data in [b"\0\0", b"\0\1x", long, random.randbytes(3000)]:
        with connect(server, 53, 1) as stream:
            try:
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
                read_all(stream)
            except OSError:
                pass
    print("sent")


def attempt(words, deed):
    """Does something that may fail, and says how it ended."""
    try:
        print(words, "did:", deed())
    except OSError as error:
        print(words, "failed:", errno.errorcode.get(error.errno, error))


def attempt_all(deeds):
    """Does them at once."""
    threads = [threading.Thread(target=attempt, args=deed) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def spoof():
    """Sends packets with sources, options and destinations that no ordinary program has."""
    outside, elsewhere = "198.51.100.41", "203.0.113.77"

    def bound(family, kind, level, option, source, target):
        def deed():
            with socket.socket(family, kind) as stream:
                stream.settimeout(1)
                stream.setsockopt(level, option, 1)
                stream.bind((source, 0))
                if kind == socket.SOCK_DGRAM:
                    stream.sendto(b"spoofed", (target, ECHO_PORT))
                    return stream.recv(100)
                return stream.connect((target, 7004))

        return deed

    def to_device(target):
        def deed():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
                stream.settimeout(1)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
                stream.sendto(b"spoofed", (target, ECHO_PORT))
                return stream.recv(100)

        return deed

    def with_options(kind):
        def deed():
            with socket.socket(socket.AF_INET, kind) as stream:
                stream.settimeout(1)
                # Loose source route over the machine's gateway (RFC 791).
                route = bytes([131, 7, 4]) + socket.inet_aton("192.0.2.1") + b"\0"
                stream.setsockopt(socket.IPPROTO_IP, IP_OPTIONS, route)
                if kind == socket.SOCK_DGRAM:
                    stream.sendto(b"spoofed", (outside, ECHO_PORT))
                    return stream.recv(100)
                return stream.connect((outside, 7004))

        return deed

    def sent(target, broadcast=False):
        def deed():
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as stream:
                stream.settimeout(1)
                if broadcast:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                stream.sendto(b"spoofed", (target, ECHO_PORT))
                return stream.recv(100)

        return deed

    v4, v6, udp, tcp = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, socket.SOCK_STREAM
    free4, free6 = (socket.IPPROTO_IP, IP_FREEBIND), (socket.IPPROTO_IPV6, IPV6_FREEBIND)
    own4 = [outside, "198.19.0.2", "127.0.0.1", "198.19.0.1"]
    foreign = [(v4, free4, elsewhere, to) for to in own4]
    own6 = ["2001:db8:0:41::41", "fdc1:ea2c:19::2", "::1", "fdc1:ea2c:19::1"]
    foreign += [(v6, free6, "2001:db8:9::9", to) for to in own6]
    for kind in [udp, tcp]:
        attempt_all(
            (f"{kind.name} from {source} to {to}", bound(family, kind, *free, source, to))
            for family, free, source, to in foreign
        )
    attempt_all(
        [(f"datagram to {outside} by lo", to_device(outside))]
        + [(f"{kind.name} with a source route", with_options(kind)) for kind in [udp, tcp]]
        + [(f"multicast {to}", sent(to)) for to in ["224.0.0.251", "ff02::fb%eth0", "ff0e::1"]]
        + [(f"broadcast {to}", sent(to, True)) for to in ["255.255.255.255", "198.19.0.3"]]
    )


def reply_to_oneself():
    """One socket of a foreign source sends to another one, which answers it."""
    source, own = ("2001:db8:9::9", ECHO_PORT), ("fdc1:ea2c:19::2", 5555)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as a:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as b:
            a.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            a.bind(source)
            b.bind(own)
            b.settimeout(0.5)
            a.settimeout(0.5)
            a.sendto(b"first", own)
            attempt("the first", lambda: b.recv(100))
            b.sendto(b"leak", source)
            # What comes back from outside.
            attempt("the answer", lambda: b.recv(100))


def own_server(host):
    """A server of the workload on the port that is also dialed outside."""
    with socket.create_server(("0.0.0.0", 7004)) as server:

        def serve():
            client, _ = server.accept()
            with client:
                client.sendall(b"hello from inside\n")

        for own in ["127.0.0.1", "198.19.0.2"]:
            thread = threading.Thread(target=serve)
            thread.start()
            greet(own)
            thread.join()
            greet(host)


def wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def keep(host, go):
    """Holds a connection open until a file appears, then reads on."""
    with connect(host, 7001) as stream:
        print("connected", flush=True)
        wait_for_file(go)
        stream.sendall(b"x")
        stream.shutdown(socket.SHUT_WR)
        print(read_all(stream).decode().strip())


def linger(host, up):
    """Holds a connection open, opens a file or a pipe, and tells how the connection ends."""
    with connect(host, 7001) as stream:
        with open(up, "w"):
            pass
        try:
            stream.recv(1)
            print("end of the stream")
        except ConnectionResetError:
            print("reset")


DEEDS = [
    greet, together, datagram, query, resolve, half_close, reset, abort, mark, bulk, goodbye, flood,
    datagram_flood, datagram_sizes, odd_clients, ping, keep_many, scan, first_packets, garbage,
    spoof, reply_to_oneself, own_server, keep, linger,
]
try:
    {deed.__name__: deed for deed in DEEDS}[sys.argv[1]](*sys.argv[2:])
except (OSError, socket.gaierror) as error:
    if isinstance(error, socket.gaierror):
        word = {socket.EAI_NONAME: "EAI_NONAME", socket.EAI_AGAIN: "EAI_AGAIN"}.get(
            error.errno, str(error)
        )
    else:
        word = errno.errorcode.get(error.errno, type(error).__name__)
    print("failed:", word)
    sys.exit(1)
