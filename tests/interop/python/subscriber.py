# SPDX-License-Identifier: Apache-2.0
"""Renders by the stack's EventSubscriber (argument: a hub's socket) or, without an argument, its
MultiSocketSubscriber: prints each notification as a line of JSON, and presses the button that a
line of its input says ([notification, action])."""

import asyncio
import json
import sys
from pathlib import Path

from terok_clearance import CallbackNotifier, EventSubscriber, MultiSocketSubscriber


def say(**what):
    print(json.dumps(what), flush=True)


async def main():
    notifier = CallbackNotifier(
        on_notify=lambda n: say(
            id=n.nid,
            summary=n.summary,
            body=n.body,
            actions=n.actions,
            replaces=n.replaces_id,
            container=n.container_id,
            identity=[n.project, n.task_id, n.task_name],
        ),
        on_container_started=lambda container: say(hook="started", container=container),
        on_container_exited=lambda container, reason: say(
            hook="exited", container=container, reason=reason
        ),
        on_shield_up=lambda container: say(hook="up", container=container),
        on_shield_down=lambda container: say(hook="down", container=container),
        on_shield_disengaged=lambda container: say(hook="disengaged", container=container),
    )
    if sys.argv[1:]:
        subscriber = EventSubscriber(notifier, socket_path=Path(sys.argv[1]))
    else:
        subscriber = MultiSocketSubscriber(notifier)
    await subscriber.start()
    say(hook="ready")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        notifier.invoke_action(*json.loads(line))
    await subscriber.stop()


asyncio.run(main())
