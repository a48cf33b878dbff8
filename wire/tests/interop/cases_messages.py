"""Sending, delivery, acknowledgement, receipts and history: PROTOCOL.md, sections 5 to 9."""

import asyncio
import time

import protocol as p
from client import PATIENCE, Session
from harness import case, chat_of, goes_on, refused


def numbered(device: p.Device, count: int) -> list[tuple[int, bytes]]:
    """New messages of a device: (client seq, body)."""
    return [(client_seq, b"message %d" % client_seq) for client_seq in (device.next_client_seq() for _ in range(count))]


async def seqs_up_to(session: Session, last: int) -> list[int]:
    """Every seq that comes, known ones too, up to this one; each acknowledged."""
    seqs = [0]
    while seqs[-1] < last:
        deliver = await session.take("deliver")
        await session.keep(deliver)
        seqs.append(deliver.seq)
    return seqs[1:]


async def receipts_reach(session: Session, chat: bytes, user: bytes, delivered: int, read: int):
    """Asks for the receipts of a chat until they tell this of a user."""
    async with asyncio.timeout(PATIENCE):
        while True:
            state = await session.request(p.GetReceipts(chat_id=chat), "receipts")
            members = {member.user_id: (member.delivered_seq, member.read_seq) for member in state.members}
            if members.get(user) == (delivered, read):
                return state
            await asyncio.sleep(0.02)


@case()
async def send_and_receive(world):
    alice, bob = await world.alice_and_bob()
    sent = await alice.send(bob.device.user_id, b"hi", client_seq=7)
    assert (sent.client_seq, sent.seq, sent.duplicate) == (7, 1, False), sent
    assert sent.chat_id == chat_of(alice, bob) and abs(sent.time_ms - time.time() * 1000) < 5000, sent
    deliver = await bob.receive()
    assert (deliver.chat_id, deliver.seq, deliver.time_ms) == (sent.chat_id, 1, sent.time_ms), deliver
    assert (deliver.sender_user, deliver.sender_device) == (alice.device.user_id, alice.device.device_id), deliver
    assert deliver.body == b"hi", deliver
    answer = await bob.send(alice.device.user_id, b"hello")
    assert (answer.chat_id, answer.seq) == (sent.chat_id, 2), answer
    # The first that alice gets is the answer, not what she sent herself.
    deliver = await alice.receive()
    assert (deliver.seq, deliver.body) == (2, b"hello"), deliver


@case()
async def order_and_dense_seqs(world):
    alice, bob = await world.alice_and_bob()
    messages, sent = numbered(alice.device, 200), {}
    await alice.send_all(bob.device.user_id, messages, sent)
    assert [sent[client_seq].seq for client_seq, _ in messages] == list(range(1, 201))
    received = [await bob.receive() for _ in messages]
    assert [(deliver.seq, deliver.body) for deliver in received] == [
        (at, body) for at, (_, body) in enumerate(messages, start=1)
    ]


@case()
async def retry_is_recognised(world):
    alice, bob = await world.alice_and_bob()
    to = bob.device.user_id
    first = await alice.send(to, b"once", client_seq=5)
    second = await alice.send(to, b"next", client_seq=9)
    again = await alice.send(to, b"once", client_seq=5)
    assert (again.seq, again.chat_id, again.duplicate) == (first.seq, first.chat_id, True), again
    await alice.close()
    alice = await world.login(alice.device, world.far)
    again = await alice.send(to, b"next", client_seq=9)
    assert (again.seq, again.duplicate) == (second.seq, True), again
    assert (await alice.send(to, b"new", client_seq=10)).seq == 3
    assert [(await bob.receive()).body for _ in range(3)] == [b"once", b"next", b"new"]


@case()
async def retry_of_what_the_server_has_forgotten(world):
    alice, bob = await world.alice_and_bob()
    to, sent = bob.device.user_id, {}
    messages = numbered(alice.device, p.DEDUP_WINDOW + 1)
    await alice.send_all(to, messages, sent)
    await refused("CLIENT_SEQ_TOO_OLD", alice.send(to, messages[0][1], client_seq=messages[0][0]))
    for client_seq, body in (messages[1], messages[-1]):
        again = await alice.send(to, body, client_seq=client_seq)
        assert (again.seq, again.duplicate) == (sent[client_seq].seq, True), again


@case()
async def notes_to_oneself(world):
    alice = await world.new_user("alice")
    sent = await alice.send(alice.device.user_id, b"note")
    assert (sent.chat_id, sent.seq) == (chat_of(alice, alice), 1), sent
    history = await alice.request(p.GetHistory(chat_id=sent.chat_id, limit=10), "history")
    assert [message.body for message in history.messages] == [b"note"] and history.complete, history
    await goes_on(alice)
    assert not alice.inbox, alice.inbox


@case()
async def catch_up_after_offline(world):
    alice, bob = await world.alice_and_bob()
    carol = await world.new_user("carol", world.far)
    await bob.bye()
    to, sent = bob.device.user_id, {}
    for sender in (alice, carol):
        await sender.send_all(to, numbered(sender.device, 30), sent)
    bob = await world.login(bob.device, world.near)
    caught_up = await bob.catch_up()
    for sender in (alice, carol):
        seqs = [deliver.seq for deliver in caught_up if deliver.chat_id == chat_of(sender, bob)]
        assert seqs == list(range(1, 31)), seqs
    await alice.send(to, b"live")
    deliver = await bob.receive()
    assert (deliver.seq, deliver.body) == (31, b"live"), deliver


@case()
async def acknowledged_messages_do_not_come_again(world):
    alice, bob = await world.alice_and_bob()
    to, user = bob.device.user_id, bob.device.user_id
    await alice.send_all(to, numbered(alice.device, 10), {})
    for _ in range(10):
        deliver = await bob.receive(ack=False)
    await bob.tell(p.Ack(chat_id=deliver.chat_id, seq=7))
    # The receipt shows that the acknowledgement is in force.
    await alice.take("receipt", lambda receipt: receipt.user_id == user and receipt.delivered_seq == 7)
    await bob.close()
    bob = await world.login(bob.device, world.near)
    seqs = await seqs_up_to(bob, 10)
    assert seqs[-3:] == [8, 9, 10], seqs
    # A Deliver may repeat what was acknowledged just before, but not for ever.
    async with asyncio.timeout(PATIENCE):
        while len(seqs) > 1:
            await bob.bye()
            newest = (await alice.send(to, b"new")).seq
            bob = await world.login(bob.device, world.far)
            seqs = await seqs_up_to(bob, newest)


@case()
async def unacknowledged_messages_come_again(world):
    alice, bob = await world.alice_and_bob()
    await alice.send_all(bob.device.user_id, numbered(alice.device, 10), {})
    first = [await bob.receive(ack=False) for _ in range(10)]
    for transport in (world.near, world.far):
        await bob.close()
        bob = await world.login(bob.device, transport)
        again = [await bob.take("deliver") for _ in first]
        assert again == first, again
    # What is new comes behind what comes again.
    await alice.send(bob.device.user_id, b"new")
    deliver = await bob.take("deliver")
    assert (deliver.seq, deliver.body) == (11, b"new"), deliver


@case()
async def server_holds_back_what_is_not_acknowledged(world):
    alice, bob = await world.alice_and_bob()
    most = bob.welcome.unacked_max
    await alice.send_all(bob.device.user_id, numbered(alice.device, most + 20), {})
    for seq in range(1, most + 1):
        deliver = await bob.receive(ack=False)
        assert deliver.seq == seq, deliver
    await goes_on(bob)
    assert not [message for kind, message in bob.inbox if kind == "deliver"], bob.inbox
    await bob.tell(p.Ack(chat_id=deliver.chat_id, seq=deliver.seq))
    for seq in range(most + 1, most + 21):
        deliver = await bob.receive()
        assert deliver.seq == seq, deliver


@case()
async def receipts(world):
    alice, bob = await world.alice_and_bob()
    chat, user = chat_of(alice, bob), bob.device.user_id
    await alice.send_all(user, numbered(alice.device, 3), {})
    for _ in range(3):
        await bob.receive()
    receipt = await alice.take("receipt", lambda receipt: receipt.delivered_seq == 3)
    assert (receipt.chat_id, receipt.user_id, receipt.read_seq) == (chat, user, 0), receipt
    await bob.request(p.Read(chat_id=chat, seq=2), "done")
    receipt = await alice.take("receipt", lambda receipt: receipt.read_seq == 2)
    # It may leave out what was told before: the larger of both counts.
    assert (receipt.chat_id, receipt.user_id) == (chat, user) and receipt.delivered_seq in (0, 3), receipt
    # It never moves back.
    await bob.request(p.Read(chat_id=chat, seq=1), "done")
    for asker in (alice, bob):
        # What was told as a Receipt can be a little ahead of what is answered.
        state = await receipts_reach(asker, chat, user, delivered=3, read=2)
        assert (state.chat_id, state.last_seq) == (chat, 3), state
        assert sorted(member.user_id for member in state.members) == sorted((alice.device.user_id, user)), state


@case()
async def history_in_pages(world):
    alice, bob = await world.alice_and_bob()
    chat, sent = chat_of(alice, bob), {}
    await alice.send_all(bob.device.user_id, numbered(alice.device, 25), sent)
    before, pages = 0, []
    while not pages or not pages[-1].complete:
        pages.append(await bob.request(p.GetHistory(chat_id=chat, before_seq=before, limit=10), "history"))
        assert pages[-1].chat_id == chat and pages[-1].messages, pages[-1]
        before = pages[-1].messages[-1].seq
    assert [len(page.messages) for page in pages] == [10, 10, 5]
    messages = [message for page in pages for message in page.messages]
    assert [message.seq for message in messages] == list(range(25, 0, -1))
    assert {message.seq: message.body for message in messages} == {s.seq: b"message %d" % c for c, s in sent.items()}
    # The device's own messages are included.
    own = await alice.request(p.GetHistory(chat_id=chat, before_seq=6, limit=5), "history")
    assert list(own.messages) == messages[-5:] and own.complete, own
    nothing = await alice.request(p.GetHistory(chat_id=chat, before_seq=1, limit=5), "history")
    assert not nothing.messages and nothing.complete, nothing


@case()
async def history_pages_are_bounded_in_bytes(world):
    alice, bob = await world.alice_and_bob()
    chat, body = chat_of(alice, bob), bytes(p.HISTORY_PAGE_BYTES_MAX // 2)
    for _ in range(3):
        await alice.send(bob.device.user_id, body)
    page = await bob.request(p.GetHistory(chat_id=chat, limit=10), "history")
    assert [message.seq for message in page.messages] == [3, 2] and not page.complete, page.complete
    page = await bob.request(p.GetHistory(chat_id=chat, before_seq=2, limit=10), "history")
    assert [message.seq for message in page.messages] == [1] and page.complete, page.complete
