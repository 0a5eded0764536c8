# SPDX-License-Identifier: Apache-2.0
"""The servers of internet.py, and a web server at every address.

Each request is an event ["http", local address, path]. A page says its address.
"""

import asyncio

import internet


async def serve_page(reader, writer):
    address = writer.get_extra_info("sockname")[0].removeprefix("::ffff:")
    request = await reader.readuntil(b"\r\n\r\n")
    internet.EVENTS.append(["http", address, request.split()[1].decode("latin-1")])
    page = b"hello from %s\n" % address.encode()
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
    await writer.drain()


internet.PORTS = {80: serve_page, 443: serve_page}
asyncio.run(internet.main())
