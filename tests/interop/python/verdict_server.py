# SPDX-License-Identifier: Apache-2.0
"""Runs the stack's own VerdictServer on another socket than the classic one, as its supervisor does.

Arguments: the socket; then a program to run in place of the stack's terok-shield, or nothing."""

import asyncio
import sys
from pathlib import Path

from terok_clearance import VerdictServer


async def main(socket, shield=None):
    server = VerdictServer(socket_path=Path(socket), shield_binary=shield)
    await server.start()
    await asyncio.get_running_loop().create_future()


asyncio.run(main(*sys.argv[1:]))
