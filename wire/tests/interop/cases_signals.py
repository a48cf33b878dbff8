"""What is passed on and never stored: PROTOCOL.md, section 20."""

import protocol as p
from cases_devices import link
from cases_groups import change, ids, make, say, trio
from client import Session
from harness import case, chat_of, refused


def call(step: int) -> bytes:
    """A step of a call, as clients have agreed on it."""
    return p.SignalBody(call=p.Call(call_id=bytes(range(16)), step=step, payload=b"v=0")).SerializeToString()


TYPING = p.SignalBody(typing=p.Typing(on=True)).SerializeToString()


async def signal(session: Session, body: bytes = TYPING, **to):
    """Sends a signal: to_user, chat_id and device_id as keywords."""
    return await session.request(p.SendSignal(body=body, **to), "done")


def nothing_came(session: Session):
    """No signal waits for the test."""
    assert not [message for kind, message in session.inbox if kind == "signal"], session.inbox


@case()
async def a_call_between_devices(world):
    alice, bob = await world.alice_and_bob()
    alice_id, bob_id = ids(alice, bob)
    await refused("UNKNOWN_CHAT", signal(alice, to_user=bob_id))
    await alice.send(bob_id, b"may I call?")
    await bob.receive()
    tablet = await link(world, bob, "tablet")
    await signal(alice, call(p.CALL_STEP_OFFER), to_user=bob_id)
    for device in (bob, tablet):
        offer = await device.take("signal")
        expected = (chat_of(alice, bob), alice_id, 1, call(p.CALL_STEP_OFFER))
        assert (offer.chat_id, offer.sender_user, offer.sender_device, offer.body) == expected, offer
    # It is taken on the tablet, which tells the device that calls, and the user's other devices.
    await signal(tablet, call(p.CALL_STEP_ANSWER), to_user=alice_id, device_id=offer.sender_device)
    await signal(tablet, call(p.CALL_STEP_ANSWER), to_user=bob_id)
    answer, taken = await alice.take("signal"), await bob.take("signal")
    assert answer.sender_device == taken.sender_device == tablet.device.device_id, (answer, taken)
    read = p.SignalBody.FromString(answer.body)
    assert read.call.step == p.CALL_STEP_ANSWER and read.call.call_id == bytes(range(16)), read
    await signal(alice, to_user=bob_id, device_id=bob.device.device_id)
    assert (await bob.take("signal")).body == TYPING
    await alice.send(bob_id, b"heard you")
    assert (await tablet.receive()).body == b"heard you"
    nothing_came(tablet)


@case()
async def signals_in_a_group(world):
    alice, bob, carol = await trio(world)
    alice_id, _, carol_id = ids(alice, bob, carol)
    chat = await make(alice, bob, carol)
    await bob.receive()
    await carol.receive()
    await signal(alice, chat_id=chat)
    for who in (bob, carol):
        came = await who.take("signal")
        assert (came.chat_id, came.sender_user, came.body) == (chat, alice_id, TYPING), came
    await signal(alice, call(p.CALL_STEP_OFFER), chat_id=chat, to_user=carol_id)
    assert (await carol.take("signal")).body == call(p.CALL_STEP_OFFER)
    await say(alice, chat, b"and a message")
    assert (await bob.receive()).body == b"and a message"
    nothing_came(bob)
    dave = await world.new_user("dave")
    await refused("UNKNOWN_CHAT", signal(dave, chat_id=chat))
    await refused("UNKNOWN_CHAT", signal(dave, chat_id=bytes(16)))
    await refused("UNKNOWN_USER", signal(alice, chat_id=chat, to_user=dave.device.user_id))
    await change(alice, chat, set_look=p.SetLook(announcements=True))
    await refused("NOT_ALLOWED", signal(bob, chat_id=chat))
    await signal(alice, chat_id=chat)


@case()
async def signals_out_of_range(world):
    alice, bob = await world.alice_and_bob()
    bob_id = bob.device.user_id
    await alice.send(bob_id, b"hello")
    await signal(alice, bytes(p.SIGNAL_BYTES_MAX), to_user=bob_id)
    assert len((await bob.take("signal")).body) == p.SIGNAL_BYTES_MAX
    await refused("BODY_TOO_LARGE", signal(alice, bytes(p.SIGNAL_BYTES_MAX + 1), to_user=bob_id))
    for wrong in (
        {"to_user": bob_id, "body": b""},
        {},
        {"to_user": bob_id[:15]},
        {"chat_id": bytes(17)},
        {"chat_id": chat_of(alice, bob), "device_id": 1},
        {"to_user": bob_id, "device_id": 1 << 24},
    ):
        await refused("INVALID_ARGUMENT", signal(alice, **wrong))
    await refused("UNKNOWN_CHAT", signal(alice, chat_id=chat_of(alice, bob)))
    await refused("UNKNOWN_CHAT", signal(alice, to_user=bytes(16)))


@case()
async def who_is_away_gets_no_signal(world):
    alice, bob = await world.alice_and_bob()
    bob_id = bob.device.user_id
    await alice.send(bob_id, b"hello")
    await bob.bye()
    await signal(alice, to_user=bob_id)
    bob = await world.login(bob.device, world.far)
    assert [deliver.body for deliver in await bob.catch_up()] == [b"hello"]
    await alice.send(bob_id, b"now")
    assert (await bob.receive()).body == b"now"
    nothing_came(bob)


@case()
async def a_block_stops_signals(world):
    alice, bob = await world.alice_and_bob()
    await alice.send(bob.device.user_id, b"hello")
    await bob.request(p.SetBlocked(user_id=alice.device.user_id, blocked=True), "done")
    await refused("NOT_ALLOWED", signal(alice, to_user=bob.device.user_id))
    await refused("NOT_ALLOWED", signal(bob, to_user=alice.device.user_id))
