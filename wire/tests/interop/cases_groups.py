"""Groups: PROTOCOL.md, section 19, and what section 8 says of receipts in groups."""

import asyncio

import protocol as p
from client import PATIENCE, Session
from harness import case, chat_of, refused


def ids(*sessions: Session) -> list[bytes]:
    """The users of some sessions."""
    return [session.device.user_id for session in sessions]


async def change(session: Session, chat: bytes, **kind):
    """Changes a group: one field of GroupChange, as a keyword."""
    client_seq = session.device.next_client_seq()
    send = p.Send(client_seq=client_seq, chat_id=chat, change=p.GroupChange(**kind))
    return await session.request(send, "sent")


async def say(session: Session, chat: bytes, body: bytes):
    """A message to a group."""
    send = p.Send(client_seq=session.device.next_client_seq(), chat_id=chat, body=body)
    return await session.request(send, "sent")


async def make(session: Session, *others: Session, name: bytes = b"friends") -> bytes:
    """A new group; its id."""
    sent = await change(session, b"", create=p.CreateGroup(name=name, user_ids=ids(*others)))
    assert (sent.seq, sent.duplicate) == (1, False), sent
    device = session.device
    assert sent.chat_id == p.group_chat(device.user_id, device.device_id, sent.client_seq), sent
    return sent.chat_id


async def added(session: Session, chat: bytes, *others: Session):
    """Adds users; they may have to be waited for, where they were in before."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await change(session, chat, add=p.AddMembers(user_ids=ids(*others)))
            except Exception as error:
                if getattr(error, "code", None) != p.CODES["UNAVAILABLE"]:
                    raise
                await asyncio.sleep(0.05)


async def history(session: Session, chat: bytes) -> list:
    """The newest messages of a chat, oldest first."""
    answer = await session.request(p.GetHistory(chat_id=chat, limit=100), "history")
    assert answer.complete, answer
    return list(reversed(answer.messages))


async def trio(world) -> tuple[Session, Session, Session]:
    """Three users, on both transports."""
    alice, bob = await world.alice_and_bob()
    return alice, bob, await world.new_user("carol", world.near)


@case()
async def one_order_of_messages_and_changes(world):
    alice, bob, carol = await trio(world)
    chat = await make(alice, bob, carol)
    await asyncio.gather(*(say(who, chat, b"%d" % n) for n in range(10) for who in (alice, bob, carol)))
    renamed = await change(alice, chat, set_look=p.SetLook(name=b"close friends"))
    assert renamed.seq == 32, renamed
    logs = [await history(who, chat) for who in (alice, bob, carol)]
    assert logs[0] == logs[1] == logs[2] and [message.seq for message in logs[0]] == list(range(1, 33))
    first, last = logs[0][0].change, logs[0][-1].change
    assert first.create.name == b"friends" and sorted(first.create.user_ids) == sorted(ids(bob, carol)), first
    assert last.set_look.name == b"close friends" and not last.set_look.HasField("picture"), last
    for who in (bob, carol):
        # All but its own, in order.
        expected = [message for message in logs[0] if message.sender_user != who.device.user_id]
        received = [await who.receive() for _ in expected]
        assert received == expected, received
    seen = await bob.request(p.GetChat(chat_id=chat), "chat")
    roles = {member.user_id: member.role for member in seen.members}
    assert roles == {alice.device.user_id: 2, bob.device.user_id: 0, carol.device.user_id: 0}, roles
    assert (seen.group.name, seen.first_seq, seen.last_seq) == (b"close friends", 1, 32), seen


@case()
async def members_come_and_go(world):
    alice, bob, carol = await trio(world)
    chat = await make(alice, bob)
    await say(alice, chat, b"before")
    came = await added(alice, chat, carol)
    await say(alice, chat, b"welcome")
    first, second = await carol.receive(), await carol.receive()
    assert (first.seq, list(first.change.add.user_ids)) == (came.seq, ids(carol)), first
    assert second.body == b"welcome" and [message.seq for message in await history(carol, chat)] == [3, 4]
    out = await change(alice, chat, remove=p.RemoveMembers(user_ids=ids(carol)))
    await say(alice, chat, b"without her")
    last = await carol.receive()
    assert (last.seq, list(last.change.remove.user_ids)) == (out.seq, ids(carol)), last
    await refused("UNKNOWN_CHAT", say(carol, chat, b"still here?"))
    for request in (p.GetChat(chat_id=chat), p.GetHistory(chat_id=chat, limit=1), p.GetReceipts(chat_id=chat)):
        await refused("UNKNOWN_CHAT", carol.request(request, "nothing"))
    again = await added(alice, chat, carol)
    deliver = await carol.receive()
    assert deliver.seq == again.seq == 7, deliver
    # The owner leaves, and who was in for longest owns it.
    left = await change(alice, chat, leave=p.LeaveGroup())
    deliver = await carol.receive()
    assert (deliver.seq, deliver.change.leave.owner_id) == (left.seq, bob.device.user_id), deliver
    await change(bob, chat, remove=p.RemoveMembers(user_ids=ids(carol)))


@case()
async def roles_and_announcements(world):
    alice, bob, carol = await trio(world)
    chat = await make(alice, bob, carol)
    for kind in (
        {"add": p.AddMembers(user_ids=[bytes(16)])},
        {"remove": p.RemoveMembers(user_ids=ids(carol))},
        {"set_role": p.SetRole(user_id=carol.device.user_id, role=1)},
        {"set_look": p.SetLook(announcements=True)},
    ):
        await refused("NOT_ALLOWED", change(bob, chat, **kind))
    await change(alice, chat, set_role=p.SetRole(user_id=bob.device.user_id, role=1))
    await change(bob, chat, set_look=p.SetLook(announcements=True))
    await refused("NOT_ALLOWED", say(carol, chat, b"may I?"))
    await say(bob, chat, b"I may")
    await refused("NOT_ALLOWED", change(bob, chat, remove=p.RemoveMembers(user_ids=ids(alice))))
    await refused("UNKNOWN_USER", change(bob, chat, add=p.AddMembers(user_ids=[bytes(16)])))
    await refused("INVALID_ARGUMENT", change(bob, chat, set_look=p.SetLook(announcements=True)))
    await refused("INVALID_ARGUMENT", change(bob, chat, add=p.AddMembers(user_ids=ids(carol))))
    await refused("INVALID_ARGUMENT", change(bob, chat))
    users = [n.to_bytes(16, "big") for n in range(1, p.GROUP_MEMBERS_MAX + 1)]
    await refused("TOO_MANY", change(bob, b"", create=p.CreateGroup(user_ids=users)))
    too_long = b"x" * (p.GROUP_NAME_BYTES_MAX + 1)
    await refused("INVALID_ARGUMENT", change(bob, b"", create=p.CreateGroup(name=too_long)))
    await refused("UNKNOWN_CHAT", change(bob, chat_of(alice, bob), add=p.AddMembers(user_ids=ids(carol))))


@case()
async def retries_of_changes(world):
    alice, bob, carol = await trio(world)
    create = p.Send(client_seq=5, change=p.GroupChange(create=p.CreateGroup(user_ids=ids(bob))))
    first = await alice.request(create, "sent")
    add = p.Send(
        client_seq=6, chat_id=first.chat_id, change=p.GroupChange(add=p.AddMembers(user_ids=ids(carol)))
    )
    second = await alice.request(add, "sent")
    await alice.close()
    alice = await world.login(alice.device, world.far)
    for send, sent in ((create, first), (add, second)):
        again = await alice.request(send, "sent")
        assert (again.chat_id, again.seq, again.duplicate) == (sent.chat_id, sent.seq, True), again
    assert [message.seq for message in await history(bob, first.chat_id)] == [1, 2]


@case()
async def receipts_of_a_group(world):
    alice, bob, carol = await trio(world)
    chat = await make(alice, bob, carol)
    sent = await say(alice, chat, b"have you got it?")
    for who in (bob, carol):
        await who.receive()
        await who.receive()
    receipt = await alice.take("receipt", lambda receipt: receipt.delivered_seq == sent.seq)
    assert (receipt.chat_id, receipt.user_id, receipt.read_seq) == (chat, b"", 0), receipt
    await bob.request(p.Read(chat_id=chat, seq=sent.seq), "done")
    state = await alice.request(p.GetReceipts(chat_id=chat), "receipts")
    reads = {member.user_id: member.read_seq for member in state.members}
    assert (reads[bob.device.user_id], reads[carol.device.user_id]) == (sent.seq, 0), reads
    await carol.request(p.Read(chat_id=chat, seq=sent.seq), "done")
    receipt = await alice.take("receipt", lambda receipt: receipt.read_seq == sent.seq)
    assert receipt.user_id == b"", receipt


@case()
async def catch_up_of_a_group_after_offline(world):
    alice, bob, carol = await trio(world)
    chat = await make(alice, bob, carol)
    await bob.bye()
    for n in range(30):
        await say((alice, carol)[n % 2], chat, b"%d" % n)
    bob = await world.login(bob.device, world.near)
    seqs = [deliver.seq for deliver in await bob.catch_up()]
    assert sorted(set(seqs)) == list(range(1, 32)), seqs
    await say(alice, chat, b"live")
    assert (await bob.receive()).body == b"live"


async def listed(session: Session, limit: int) -> dict[bytes, int]:
    """The chats that a user is in, read by pages of so many, with the message that let it in."""
    found, after = {}, b""
    while True:
        page = await session.request(p.GetChats(after_chat_id=after, limit=limit), "chats")
        ids_of_page = [entry.chat_id for entry in page.chats]
        assert ids_of_page == sorted(ids_of_page) and all(chat > after for chat in ids_of_page), page
        found.update({entry.chat_id: entry.from_seq for entry in page.chats})
        if page.complete:
            return found
        assert len(page.chats) == limit, page
        after = ids_of_page[-1]


async def will_list(session: Session, expected: dict[bytes, int]):
    """Chats come and go with the messages that say so, or a moment later."""
    async with asyncio.timeout(PATIENCE):
        while await listed(session, 1) != expected:
            await asyncio.sleep(0.05)
    assert await listed(session, p.CHATS_PAGE_MAX) == expected


@case()
async def chats_are_listed(world):
    """GetChats tells in which chats the asker is, by pages."""
    alice, bob, carol = await trio(world)
    await will_list(alice, {})
    group = await make(alice, bob, carol)
    client_seq = alice.device.next_client_seq()
    await alice.request(p.Send(client_seq=client_seq, to_user=bob.device.user_id, body=b"x"), "sent")
    direct = chat_of(alice, bob)
    await will_list(alice, {group: 1, direct: 1})
    await will_list(bob, {group: 1, direct: 1})
    await will_list(carol, {group: 1})
    await change(alice, group, remove=p.RemoveMembers(user_ids=ids(bob)))
    await will_list(bob, {direct: 1})
    sent = await added(alice, group, bob)
    await will_list(bob, {direct: 1, group: sent.seq})
    for limit in (0, p.CHATS_PAGE_MAX + 1):
        await refused("INVALID_ARGUMENT", bob.request(p.GetChats(limit=limit), "chats"))
    short = p.GetChats(after_chat_id=b"short", limit=1)
    await refused("INVALID_ARGUMENT", bob.request(short, "chats"))


@case()
async def a_link_lets_its_holder_in(world):
    alice, bob, carol = await trio(world)
    chat = await make(alice, bob)
    secret = bytes(range(16))
    await change(alice, chat, set_invite=p.SetInvite(secret=secret))
    assert (await bob.receive()).change.create.name == b"friends"
    told = (await bob.receive()).change.set_invite
    assert not told.secret and not told.ended, told
    # Base64 of the group's id and the secret.
    group, key = p.parse_invite(p.invite_link(chat, secret))
    invite = await carol.request(p.GetInvite(chat_id=group, secret=key), "invite")
    assert (invite.name, invite.members, invite.expires_ms) == (b"friends", 2, 0), invite
    joined = await change(carol, group, join=p.JoinGroup(secret=key))
    came = await bob.receive()
    assert (came.seq, came.sender_user, came.change.join.secret) == (joined.seq, carol.device.user_id, b""), came
    seen = await alice.request(p.GetChat(chat_id=chat), "chat")
    assert seen.group.invite_secret == secret and len(seen.members) == 3, seen
    seen = await carol.request(p.GetChat(chat_id=chat), "chat")
    assert not seen.group.invite_secret and seen.first_seq == joined.seq, seen
    await change(alice, chat, set_invite=p.SetInvite(ended=True))
    await refused("INVITE_UNKNOWN", carol.request(p.GetInvite(chat_id=group, secret=key), "invite"))


@case()
async def what_disappears_is_told_without_its_body(world):
    alice, bob, _ = await trio(world)
    chat = p.direct_chat(alice.device.user_id, bob.device.user_id)
    first = p.Send(client_seq=alice.device.next_client_seq(), to_user=bob.device.user_id, body=b"stays")
    await alice.request(first, "sent")
    await change(alice, chat, set_timer=p.SetTimer(timer_s=1))
    goes = p.Send(client_seq=alice.device.next_client_seq(), to_user=bob.device.user_id, body=b"goes")
    await alice.request(goes, "sent")
    came = [await bob.receive() for _ in range(3)]
    assert [message.timer_s for message in came] == [0, 0, 1] and came[1].change.set_timer.timer_s == 1, came
    assert (await bob.request(p.GetChat(chat_id=chat), "chat")).timer_s == 1
    async with asyncio.timeout(PATIENCE):
        while (await history(bob, chat))[-1].body:
            await asyncio.sleep(0.05)
    assert [message.body for message in await history(bob, chat)] == [b"stays", b"", b""]
