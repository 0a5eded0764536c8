# SPDX-License-Identifier: Apache-2.0
"""Gives orders to a verdict helper by the stack's VerdictClient: for each line of its input
([container, dest, action]) prints what it returns ([ok, stderr]).

Arguments: the helper's socket."""

import asyncio
import json
import sys
from pathlib import Path

from terok_clearance import VerdictClient


async def main():
    client = VerdictClient(socket_path=Path(sys.argv[1]))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await client.apply(*json.loads(line))), flush=True)
    await client.stop()


asyncio.run(main())
