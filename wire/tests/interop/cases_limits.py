"""What a server refuses, and whether it closes: PROTOCOL.md, sections 3, 4, 12 and 13."""

import protocol as p
from harness import QUIC, case, chat_of, ended, goes_on, refused


@case()
async def unsupported_version(world):
    session = await world.connect()
    await refused("UNSUPPORTED_VERSION", session.hello([2, 999]))
    await ended("UNSUPPORTED_VERSION", session)


@case()
async def hello_out_of_range_closes(world):
    for hello in (p.Hello(versions=range(1, 18)), p.Hello(versions=[1], agent="a" * 65)):
        session = await world.connect()
        await refused("INVALID_ARGUMENT", session.request(hello, "challenge"))
        await ended("INVALID_ARGUMENT", session)


@case()
async def unexpected_before_login(world):
    session = await world.connect()
    await refused("UNEXPECTED", session.request(p.Ping(), "pong"))
    await ended("UNEXPECTED", session)
    session = await world.connect()
    await session.hello()
    await refused("UNEXPECTED", session.request(p.Send(client_seq=1, to_user=bytes(16)), "sent"))
    await ended("UNEXPECTED", session)


@case()
async def second_login_is_unexpected(world):
    session = await world.new_user("ada")
    login = session.device.login(bytes(32), p.BINDING_SERVER_CERTIFICATE, session.certificate_hash)
    await refused("UNEXPECTED", session.request(login, "welcome"))
    await ended("UNEXPECTED", session)


@case()
async def malformed(world):
    garbage, without_kind = b"\xff" * 20, p.ClientFrame(request_id=5).SerializeToString()
    for frame in (garbage, without_kind):
        for session in (await world.connect(), await world.new_user("ada")):
            await session.transport.send(frame)
            await ended("MALFORMED", session)


@case()
async def frame_too_large(world):
    before, after = await world.connect(), await world.new_user("ada")
    for session, most in ((before, p.FRAME_BYTES_UNAUTHENTICATED_MAX), (after, p.FRAME_BYTES_MAX)):
        await session.transport.send(bytes(most + 1))
        await ended("FRAME_TOO_LARGE", session)


@case(over=[QUIC])
async def announced_length_beyond_the_limit(world):
    session = await world.new_user("ada")
    await session.transport.send_raw((2**32 - 1).to_bytes(4, "big"))
    await ended("FRAME_TOO_LARGE", session)


@case()
async def body_too_large(world):
    alice, bob = await world.alice_and_bob()
    to = bob.device.user_id
    await refused("BODY_TOO_LARGE", alice.send(to, bytes(p.BODY_BYTES_MAX + 1)))
    # Longer than a body may be, but no longer than a frame may be.
    await refused("BODY_TOO_LARGE", alice.send(to, bytes(p.FRAME_BYTES_MAX - 100)))
    largest = bytes(range(256)) * (p.BODY_BYTES_MAX // 256)
    assert (await alice.send(to, largest)).seq == 1
    assert (await bob.receive()).body == largest


@case()
async def invalid_argument(world):
    alice, bob = await world.alice_and_bob()
    to, chat = bob.device.user_id, chat_of(alice, bob)
    await alice.send(to, b"hi")
    for message, kind in (
        (p.Send(client_seq=0, to_user=to, body=b"zero"), "sent"),
        (p.Send(client_seq=2**64 - 1, to_user=to, body=b"beyond"), "sent"),
        (p.Send(client_seq=2, to_user=to[:15], body=b"short id"), "sent"),
        (p.Ack(chat_id=chat + b"!", seq=1), "none"),
        (p.Read(chat_id=b"", seq=1), "done"),
        (p.GetHistory(chat_id=chat, limit=0), "history"),
        (p.GetHistory(chat_id=chat, limit=p.HISTORY_PAGE_MAX + 1), "history"),
        (p.GetHistory(chat_id=chat[1:], limit=1), "history"),
        (p.GetReceipts(chat_id=b"x"), "receipts"),
        (p.FindUser(handle="No Such Handle"), "user_found"),
        (p.SubscribePresence(user_ids=[to, b"short"]), "done"),
    ):
        await refused("INVALID_ARGUMENT", alice.request(message, kind))
    sent = await alice.send(to, b"the session goes on")
    assert sent.seq == 2, sent


@case()
async def invalid_handle(world):
    for handle in ("ab", "a" * 33, "Ada", "-ada", "a da", ""):
        session = await world.connect()
        await refused("INVALID_ARGUMENT", session.register(p.Device(handle)))
        await session.register(world.device("ada"))


@case()
async def unknown_chat(world):
    alice, bob = await world.alice_and_bob()
    carol = await world.new_user("carol")
    await alice.send(bob.device.user_id, b"hi")
    not_hers, no_message_yet, nowhere = chat_of(alice, bob), chat_of(carol, bob), bytes(16)
    for chat in (not_hers, no_message_yet, nowhere):
        await refused("UNKNOWN_CHAT", carol.request(p.GetHistory(chat_id=chat, limit=10), "history"))
        await refused("UNKNOWN_CHAT", carol.request(p.GetReceipts(chat_id=chat), "receipts"))
        await refused("UNKNOWN_CHAT", carol.request(p.Read(chat_id=chat, seq=1), "done"))
    await goes_on(carol)


@case()
async def too_many_subscriptions(world):
    session = await world.new_user("ada")
    ids = [number.to_bytes(16, "big") for number in range(p.PRESENCE_SUBSCRIPTIONS_MAX + 1)]
    await refused("TOO_MANY_SUBSCRIPTIONS", session.request(p.SubscribePresence(user_ids=ids), "done"))
    await session.request(p.SubscribePresence(user_ids=ids[1:]), "done")


@case()
async def sends_beyond_those_in_flight(world):
    alice, bob = await world.alice_and_bob()
    to, sent = bob.device.user_id, {}
    asked = []
    for client_seq in range(1, alice.welcome.sends_in_flight_max + 7):
        asked.append((client_seq, await alice.ask(p.Send(client_seq=client_seq, to_user=to, body=b"%d" % client_seq))))
    for client_seq, future in asked:
        kind, answer = await future
        if kind == "sent":
            sent[client_seq] = answer
        else:
            assert (kind, answer.code) == ("error", p.CODES["TOO_MANY_IN_FLIGHT"]), (kind, answer)
    refused_ones = [(client_seq, b"%d" % client_seq) for client_seq, _ in asked if client_seq not in sent]
    await alice.send_all(to, refused_ones, sent)
    assert not any(answer.duplicate for answer in sent.values())
    received = [await bob.receive() for _ in asked]
    assert {d.seq: d.body for d in received} == {a.seq: b"%d" % c for c, a in sent.items()}
    assert [d.seq for d in received] == list(range(1, len(asked) + 1))
