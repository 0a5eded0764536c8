# SPDX-License-Identifier: Apache-2.0
"""Calls a hub through the stack's own interface and error types: for each line of its input (the
parameters of Verdict), prints the reply, or the error's class, its name and its parameters.

Arguments: the hub's socket."""

import asyncio
import json
import sys

from asyncvarlink import VarlinkClientProtocol, connect_unix_varlink
from asyncvarlink.error import VarlinkErrorReply
from terok_clearance.wire import errors as _typed  # noqa: F401 (its classes register themselves)
from terok_clearance.wire.interface import Clearance1Interface


async def main():
    transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, sys.argv[1])
    hub = protocol.make_proxy(Clearance1Interface)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            said = {"reply": await hub.Verdict(**json.loads(line))}
        except VarlinkErrorReply as error:
            said = {
                "class": type(error).__name__,
                "error": error.name,
                "parameters": error.paramstojson(),
            }
        print(json.dumps(said), flush=True)
    transport.close()


asyncio.run(main())
