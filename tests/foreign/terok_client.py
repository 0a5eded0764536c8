# SPDX-License-Identifier: Apache-2.0
"""Uses a hub with the Python stack's own client: terok_client.py SOCKET."""

import asyncio
import pathlib
import sys

from terok_clearance import ClearanceClient

CONTAINER = "0123456789ab"


async def main(path):
    seen = asyncio.Queue()
    client = ClearanceClient(socket_path=pathlib.Path(path))
    await client.start(seen.put)
    first = await seen.get()
    assert first.type == "connection_blocked" and first.container == CONTAINER, first
    dest = first.domain or first.dest
    assert not await client.verdict(CONTAINER, first.request_id, "elsewhere.example", "allow")
    assert await client.verdict(CONTAINER, first.request_id, dest, "allow")
    assert not await client.verdict(CONTAINER, first.request_id, dest, "allow")
    event = first
    while event.type != "verdict_applied":
        event = await seen.get()
    assert event.request_id == first.request_id and event.ok and event.action == "allow", event
    await client.stop()
    print("ok")


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 20))
