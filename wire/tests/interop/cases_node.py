"""A node that stops, and one that is killed: PROTOCOL.md, sections 6, 7 and 11."""

import asyncio
import contextlib
from collections.abc import Iterator

import protocol as p
from client import Closed, Session
from harness import case, chat_of, ended


async def whole_history(session: Session, chat: bytes) -> dict[int, bytes]:
    """Every message of a chat: seq and body."""
    messages: dict[int, bytes] = {}
    page = None
    while page is None or not page.complete:
        request = p.GetHistory(chat_id=chat, before_seq=min(messages, default=0), limit=p.HISTORY_PAGE_MAX)
        page = await session.request(request, "history")
        messages |= {message.seq: message.body for message in page.messages}
    return messages


@case()
async def graceful_shutdown(world):
    node = await world.start_node()
    alice, bob = await world.alice_and_bob(node)
    await alice.send(bob.device.user_id, b"kept")
    deliver = await bob.receive(ack=False)
    stopping = asyncio.create_task(node.stop())
    for session in (alice, bob):
        await ended("UNAVAILABLE", session)
        assert type(session.ending).__name__ == "Goaway", session.ending
    await stopping
    await node.start()
    bob = await world.login(bob.device, world.far, node)
    again = await bob.take("deliver")
    assert again == deliver, again


@case()
async def what_waited_comes_after_a_restart(world):
    node = await world.start_node()
    pairs = [await world.alice_and_bob(node) for _ in range(6)]
    for alice, bob in pairs:
        await alice.send(bob.device.user_id, b"waits")
    await node.kill()
    await asyncio.gather(*(session.close() for pair in pairs for session in pair))
    await node.start()
    for _, bob in pairs:
        # Before or behind Synced: it was stored shortly before the node went down.
        deliver = await (await world.login(bob.device, world.far, node)).receive()
        assert deliver.body == b"waits"


@case()
async def killed_and_restarted(world):
    node = await world.start_node()
    alice, bob = await world.alice_and_bob(node)
    to, chat = bob.device.user_id, chat_of(alice, bob)
    stored: dict[int, bytes] = {}
    sent: dict = {}
    received: dict[int, bytes] = {}

    def without_end() -> Iterator[tuple[int, bytes]]:
        while True:
            client_seq = alice.device.next_client_seq()
            stored[client_seq] = b"message %d" % client_seq
            yield client_seq, stored[client_seq]

    def keep(deliver):
        assert deliver.seq not in received, f"{deliver.seq} is new twice"
        received[deliver.seq] = deliver.body

    # Killed while messages are under way in both directions, and some are acknowledged.
    sending = asyncio.create_task(alice.send_all(to, without_end(), sent))
    for at in range(150):
        keep(await bob.receive(ack=at < 100))
    await node.kill()
    await asyncio.gather(alice.close(), bob.close())
    with contextlib.suppress(Closed):
        await sending
    assert sent and len(stored) > len(sent), (len(stored), len(sent))

    await node.start()
    alice = await world.login(alice.device, world.near, node)
    unanswered = [(client_seq, body) for client_seq, body in stored.items() if client_seq not in sent]
    await alice.send_all(to, unanswered, sent)
    bob = await world.login(bob.device, world.far, node)
    came_again, seq = set(), 0
    while seq < len(stored):
        deliver = await bob.take("deliver")
        seq = deliver.seq
        if await bob.keep(deliver):
            keep(deliver)
        else:
            came_again.add(seq)
    assert came_again >= set(range(101, 151)), f"not acknowledged, and only {sorted(came_again)} came again"
    new = await alice.send(to, b"new")
    assert new.seq == len(stored) + 1, new
    keep(await bob.receive())

    everything = {answer.seq: stored[client_seq] for client_seq, answer in sent.items()} | {new.seq: b"new"}
    assert sorted(everything) == list(range(1, new.seq + 1))
    assert [everything[seq] for seq in sorted(everything)] == [*stored.values(), b"new"]
    assert received == everything
    assert await whole_history(alice, chat) == everything
