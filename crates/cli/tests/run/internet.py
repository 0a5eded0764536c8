# SPDX-License-Identifier: Apache-2.0
"""Servers of a simulated internet that record what reaches them.

Runs in the network namespace of the demo's internet. Prints "ready", then one line of JSON with all
recorded events for each line of input, and ends with the input:

  ["dns", "udp" or "tcp", name, type]
  ["tcp", local address, local port]
  ["udp", local address, local port, text]
  ["packet", protocol, source, destination, destination port or ICMP type, has options]

Packets are those that arrive at the link: of TCP only connection requests.
"""

import asyncio
import ipaddress
import json
import socket
import struct
import subprocess
import sys

RESOLVERS = ["198.51.100.53", "198.51.100.54", "2001:db8:0:53::53"]
HOST_RANGES = [
    "198.51.100.128/26",  # 198.51.100.128 to 198.51.100.191 are hosts
    "198.51.100.40/30",
    "203.0.113.77/32",
    "10.9.9.0/24",
    "2001:db8:0:41::/64",
    "2001:db8:9::/64",
]
ECHO_PORT = 9999
ECHO_ADDRESSES = ["198.51.100.41", "10.9.9.9", "2001:db8:0:41::41", "2001:db8:9::9"]
NAMES = {
    "one.test": ["198.51.100.40"],
    "two.test": ["198.51.100.40"],
    "three.test": ["198.51.100.40"],
    "plain.test": ["198.51.100.41"],
    "a.wide.test": ["198.51.100.42"],
    "b.wide.test": ["198.51.100.43"],
    "other.test": ["198.51.100.129"],
    "registry.npm.test": ["198.51.100.144"],
    "files.pypi.test": ["198.51.100.145"],
    "other.pypi.test": ["198.51.100.146"],
    "git.test": ["198.51.100.147"],
    "api.model.test": ["198.51.100.148"],
    "tracker.test": ["198.51.100.149"],
    "search.corp.test": ["198.51.100.130"],
    "v6.test": ["2001:db8:0:41::41"],
    # No host has the first address.
    "dead.test": ["198.51.100.66", "198.51.100.41"],
    "many.test": [f"198.51.100.{n}" for n in range(140, 180)],
    "private.test": ["10.9.9.9"],
    "loopback.test": ["127.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:169.254.169.254"],
    "nat64.test": ["64:ff9b::a9fe:a9fe"],
    "sixtofour.test": ["2002:a9fe:a9fe::1"],
    "linklocal.test": ["fe80::1"],
    "standin.test": ["198.18.7.7"],
    "gateway.test": ["198.19.0.1"],
    "zero.test": ["0.0.0.0"],
    "broadcast.test": ["255.255.255.255"],
    "multicast.test": ["224.0.0.251"],
    "mixed.test": ["198.51.100.41", "10.9.9.9"],
    "gone.test": ["198.51.100.66"],
    "data.test": ["198.51.100.41"],
}
# A second name server knows another address.
OTHER_NAMES = {**NAMES, "plain.test": ["198.51.100.131"]}

# A text that reads as a message by itself: bank.test has the address 198.51.100.140.
FORGED_MESSAGE = (
    struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0)
    + b"\4bank\4test\0\0\1\0\1\xc0\x0c"
    + struct.pack("!HHIH", 1, 1, 60, 4)
    + socket.inet_aton("198.51.100.140")
)
FORGED_TEXT = bytes([len(FORGED_MESSAGE)]) + FORGED_MESSAGE + (b"\xff" + bytes(255)) * 8

EVENTS = []
TYPES = {1: "A", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS", 255: "ANY"}


def answer(query, names, transport):
    ident, flags, questions = struct.unpack("!HHH", query[:6])
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    kind, _class = struct.unpack("!HH", query[at + 1 : at + 5])
    question = query[12 : at + 5]
    name = ".".join(labels).lower()
    EVENTS.append(["dns", transport, name, TYPES.get(kind, str(kind))])
    addresses = names.get(name)
    records = []
    for address in map(ipaddress.ip_address, addresses or []):
        if kind == (1 if address.version == 4 else 28):
            data = address.packed
            records.append(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data)
    if kind == 16 and addresses:
        text = FORGED_TEXT if name == "data.test" else b"\5hello"
        records.append(b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 60, len(text)) + text)
    code = 0 if addresses else 3
    flags = 0x8180 | (flags & 0x0100) | code
    head = struct.pack("!HHHHHH", ident, flags, 1, len(records), 0, 0)
    reply = head + question + b"".join(records)
    if transport == "udp" and len(reply) > 512:
        reply = struct.pack("!HHHHHH", ident, flags | 0x0200, 1, 0, 0, 0) + question
    return reply


class DnsDatagrams(asyncio.DatagramProtocol):
    def __init__(self, names):
        self.names = names

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(answer(data, self.names, "udp"), address)


def serve_echo(loop, address):
    # Without asyncio's transport, which does not send empty datagrams.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.setblocking(False)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    server.bind((address, ECHO_PORT))

    def echo():
        try:
            data, client = server.recvfrom(70000)
            EVENTS.append(["udp", address, ECHO_PORT, data[:64].decode("latin-1")])
            server.sendto(data, client)
        except OSError:
            pass  # a refusal of an earlier reply

    loop.add_reader(server, echo)


def serve_dns_stream(names):
    async def serve(reader, writer):
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                reply = answer(await reader.readexactly(length), names, "tcp")
                writer.write(struct.pack("!H", len(reply)) + reply)
        except asyncio.IncompleteReadError:
            writer.close()

    return serve


def recorded(serve):
    async def record(reader, writer):
        address, port = writer.get_extra_info("sockname")[:2]
        EVENTS.append(["tcp", address.removeprefix("::ffff:"), port])
        try:
            await serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    return record


async def count(reader, writer):
    """Counts the bytes until the client's half-close, then answers."""
    total = 0
    try:
        while data := await reader.read(1 << 16):
            total += len(data)
    except ConnectionResetError:
        EVENTS.append(["reset", total])
        raise
    writer.write(b"received %d\n" % total)
    await writer.drain()


async def reset(reader, writer):
    """Resets the connection after one line."""
    await reader.readline()
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def bulk(reader, writer):
    """Sends as many bytes as the client asks for."""
    left = int(await reader.readline())
    block = bytes(range(256)) * 256
    while left > 0:
        writer.write(block[:left])
        left -= len(block)
        await writer.drain()


async def greet(_reader, writer):
    """Names the address that was reached."""
    address = writer.get_extra_info("sockname")[0]
    writer.write(b"hello from %s\n" % address.removeprefix("::ffff:").encode())
    await writer.drain()


async def say_goodbye(reader, writer):
    """Half-closes first, and records what comes after it."""
    writer.write(b"goodbye\n")
    writer.write_eof()
    data = await reader.read()
    EVENTS.append(["after-goodbye", data.decode("latin-1")])


async def proxy(reader, writer):
    """Speaks HTTP CONNECT and SOCKS5, and resolves names for itself."""
    first = await reader.readexactly(1)
    if first == b"\5":
        await reader.readexactly(1 + (await reader.readexactly(1))[0] - 1)
        writer.write(b"\5\0")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.readexactly(length))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        allowed, refused = b"\5\0\0\1" + bytes(6), b"\5\2\0\1" + bytes(6)
    else:
        head = first + await reader.readuntil(b"\r\n\r\n")
        host, _, port = head.split()[1].decode().rpartition(":")
        host, port = host.strip("[]"), int(port)
        allowed, refused = b"HTTP/1.1 200 Yes\r\n\r\n", b"HTTP/1.1 403 No\r\n\r\n"
    EVENTS.append(["proxy", host, port])
    address = NAMES.get(host, [host])[0]
    if host == "other.test":
        writer.write(refused)
        return
    there, back = await asyncio.open_connection(address, port)
    writer.write(allowed)

    async def pass_on(source, sink):
        while data := await source.read(1 << 16):
            sink.write(data)
        sink.write_eof()

    await asyncio.gather(pass_on(reader, back), pass_on(there, writer))
    back.close()


PORTS = {3128: proxy, 7001: count, 7002: reset, 7003: bulk, 7004: greet, 7005: say_goodbye}


def record_packet(data):
    if data[12:14] == b"\x08\x00":
        header = data[14:]
        length = (header[0] & 15) * 4
        protocol, options = header[9], length > 20
        source, destination = (socket.inet_ntoa(header[at : at + 4]) for at in (12, 16))
        rest = header[length:]
    elif data[12:14] == b"\x86\xdd":
        protocol = data[20]
        source, destination = (
            socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (22, 38)
        )
        rest = data[54:]
        options = protocol in (0, 43, 44, 60)
        if protocol == 0:
            protocol, rest = rest[0], rest[8 * (rest[1] + 1) :]
        # Neighbour discovery and multicast listener reports of the machine's own kernel.
        if protocol == 58 and (130 <= rest[0] <= 137 or rest[0] == 143):
            return
    else:
        return  # ARP
    if protocol == 6 and rest[13] & 0x12 != 0x02:
        return
    (port,) = struct.unpack("!H", rest[2:4]) if protocol in (6, 17) else rest[:1] or (0,)
    EVENTS.append(["packet", protocol, source, destination, port, options])


def watch_link(loop):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.bind(("machine", 0))
    link.setblocking(False)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)

    def read():
        while True:
            try:
                data, (_, _, kind, *_) = link.recvfrom(128)
            except BlockingIOError:
                return
            if kind != 4:  # not PACKET_OUTGOING
                record_packet(data)

    loop.add_reader(link, read)
    return read


async def main():
    loop = asyncio.get_running_loop()
    for network in HOST_RANGES:
        subprocess.run(["ip", "route", "add", "local", network, "dev", "lo"], check=True)
    for address in RESOLVERS + ECHO_ADDRESSES:
        flags = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "address", "add", address, "dev", "lo", *flags], check=True)
    for address in RESOLVERS:
        names = OTHER_NAMES if address.endswith(".54") else NAMES
        await loop.create_datagram_endpoint(lambda: DnsDatagrams(names), (address, 53))
        await asyncio.start_server(serve_dns_stream(names), address, 53)
    for address in ECHO_ADDRESSES:
        serve_echo(loop, address)
    for port, serve in PORTS.items():
        await asyncio.start_server(recorded(serve), ["0.0.0.0", "::"], port, backlog=4096)
    read_link = watch_link(loop)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while await lines.readline():
        # What has arrived is recorded first.
        await asyncio.sleep(0)
        read_link()
        print(json.dumps(EVENTS), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
