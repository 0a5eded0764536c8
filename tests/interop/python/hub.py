# SPDX-License-Identifier: Apache-2.0
"""Runs the stack's ClearanceHub on sockets of its own, as its sandbox's supervisor does.

Arguments: where people subscribe, where readers report, where the verdict helper is."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from terok_clearance import ClearanceHub, VerdictClient


async def main():
    clearance, reader, verdict = map(Path, sys.argv[1:])
    hub = ClearanceHub(
        clearance_socket=clearance,
        reader_socket=reader,
        verdict_client=VerdictClient(socket_path=verdict),
    )
    await hub.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await hub.stop()


logging.basicConfig(level=logging.INFO)
asyncio.run(main())
