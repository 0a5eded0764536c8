# SPDX-License-Identifier: Apache-2.0
"""Drives the stack's own ClearanceClient: prints each event it delivers as a line of JSON, and gives
each verdict that a line of its input orders ([container, request, dest, action]).

Arguments: the hub's socket; then `errors`, to have the error that refuses a verdict printed before
its answer, which does not tell it: the client only logs it."""

import asyncio
import dataclasses
import json
import logging
import sys
from pathlib import Path

from asyncvarlink import VarlinkErrorReply
from terok_clearance import ClearanceClient


def say(what):
    print(json.dumps(what), flush=True)


class Refusals(logging.Handler):
    def emit(self, record):
        for error in record.args or ():
            if isinstance(error, VarlinkErrorReply):
                say(error.tojson())


async def main():
    if "errors" in sys.argv[2:]:
        logging.getLogger().addHandler(Refusals())
    client = ClearanceClient(socket_path=Path(sys.argv[1]))

    async def show(event):
        say({"event": dataclasses.asdict(event)})

    await client.start(show)
    say({"started": True})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        container, request, dest, action = json.loads(line)
        say({"verdict": await client.verdict(container, request, dest, action)})
    await client.stop()


asyncio.run(main())
