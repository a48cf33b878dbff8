"""Runs a node, and every case against it: `python interop.py --node <columba>`."""

import argparse
import asyncio
import logging
import signal
import sys
import time
import traceback
from collections.abc import Awaitable

import cases_devices  # noqa: F401
import cases_groups  # noqa: F401
import cases_keys  # noqa: F401
import cases_limits  # noqa: F401
import cases_messages  # noqa: F401
import cases_node  # noqa: F401
import cases_people  # noqa: F401
import cases_poll  # noqa: F401
import cases_session  # noqa: F401
import cases_signals  # noqa: F401
import cases_types  # noqa: F401
from harness import CASES, WEBSOCKET, Case, World
from node import Node

# Seconds for any one case.
CASE_PATIENCE = 30.0
START = Case("node.serves", lambda world: world.node.start(), WEBSOCKET)
STOP = Case("node.stops_with_success", lambda world: world.node.stop(), WEBSOCKET)


async def fault_of(part: Awaitable[None]) -> Exception | None:
    """What goes wrong in a part of a case, its time included."""
    try:
        async with asyncio.timeout(CASE_PATIENCE):
            await part
    except Exception as fault:
        return fault
    return None


async def passes(case: Case, node: Node) -> bool:
    """Runs a case. One that fails is told with its traceback, and what its nodes logged meanwhile."""
    world, mark, start = World(node, case.transports), node.log_size(), time.monotonic()
    try:
        try:
            fault = await fault_of(case.run(world))
        finally:
            fault_at_close = await fault_of(world.close())
        fault = fault or fault_at_close
        print(f"{case.name} ... {'FAILED' if fault else 'ok'} ({time.monotonic() - start:.2f} s)", flush=True)
        if fault:
            traceback.print_exception(fault, file=sys.stdout)
            for name, log in [("the", node.log_since(mark)), *(("its own", n.log_since(0)) for n in world.own_nodes)]:
                print(f"--- log of {name} node\n{log}---", flush=True)
    finally:
        for own in world.own_nodes:
            await own.remove()
    return fault is None


async def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True, help="the node's program")
    parser.add_argument("--only", default="", help="only cases with this in their name")
    arguments = parser.parse_args()
    # No warnings about writes to a node that was killed.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    run = asyncio.current_task()
    # Once only: a second signal must not disturb the cleaning up.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: run.cancelling() or run.cancel())
    node = Node(arguments.node)
    try:
        results = [await passes(START, node)]
        for case in (case for case in CASES if arguments.only in case.name):
            # Without the node nothing is left to learn.
            if not node.runs():
                break
            results.append(await passes(case, node))
        results.append(await passes(STOP, node))
    finally:
        await node.remove()
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
