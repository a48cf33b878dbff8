"""Handshake, login, heartbeat and the end of a session: PROTOCOL.md, sections 2 to 4 and 11."""

import asyncio
import time

import websockets

import protocol as p
from client import Closed, QuicTransport, WebSocketTransport
from harness import QUIC, WEBSOCKET, case, ended, goes_on, refused


@case()
async def register_and_log_in(world):
    session, device = await world.connect(), world.device("ada")
    registered = await session.register(device)
    assert len(registered.user_id) == 16 and registered.device_id == 1, registered
    welcome = session.welcome
    assert (welcome.user_id, welcome.device_id) == (device.user_id, 1), welcome
    assert welcome.heartbeat_ms > 0 and welcome.sends_in_flight_max > 0 and welcome.unacked_max > 0, welcome
    assert abs(welcome.server_time_ms - time.time() * 1000) < 5000, welcome
    await session.take("synced")
    await session.bye()
    again = await world.login(device, world.far)
    assert (again.welcome.user_id, again.welcome.device_id) == (device.user_id, 1), again.welcome
    await again.take("synced")


@case()
async def challenge(world):
    first, second = await world.connect(), await world.connect(world.far)
    a, b = await first.hello([1]), await second.hello([7, 1, 3])
    assert a.version == b.version == 1, (a, b)
    assert len(a.nonce) == len(b.nonce) == 32 and a.nonce != b.nonce, (a, b)
    assert a.capabilities == 0 and a.registration == p.REGISTRATION_OPEN, a


@case()
async def registration_is_idempotent(world):
    device = world.device("ada")
    first = await (await world.connect()).register(device)
    again = await (await world.connect(world.far)).register(device)
    assert first == again, (first, again)


@case()
async def handle_taken(world):
    ada = await world.new_user("ada")
    other = await world.connect(world.far)
    await refused("HANDLE_TAKEN", other.register(p.Device(ada.device.handle)))
    await other.register(world.device("bea"))
    assert other.device.user_id != ada.device.user_id


@case()
async def wrong_signature(world):
    device = (await world.new_user("ada")).device
    right, nobody, elsewhere = p.Device(""), p.Device(""), p.Device("")
    for copy in (right, nobody, elsewhere):
        copy.user_id, copy.device_id = device.user_id, device.device_id
    nobody.key, nobody.user_id = device.key, bytes(16)
    elsewhere.key, elsewhere.device_id = device.key, 2
    for wrong in (right, nobody, elsewhere):
        session = await world.connect()
        await refused("UNAUTHENTICATED", session.login(wrong))
        # The connection goes on, with a new nonce.
        await session.login(device)


@case()
async def signature_without_binding_or_with_an_old_nonce(world):
    device = (await world.new_user("ada")).device
    session = await world.connect(world.far)
    old = await session.hello()
    await refused("UNAUTHENTICATED", session.request(device.login(old.nonce, p.BINDING_NONE, b""), "welcome"))
    challenge = await session.hello()
    assert challenge.nonce != old.nonce
    replayed = device.login(old.nonce, p.BINDING_SERVER_CERTIFICATE, session.certificate_hash)
    await refused("UNAUTHENTICATED", session.request(replayed, "welcome"))
    await session.login(device)


@case()
async def three_failed_attempts_close(world):
    device = (await world.new_user("ada")).device
    stranger = p.Device(device.handle)
    stranger.user_id, stranger.device_id = device.user_id, device.device_id
    session = await world.connect()
    await refused("UNAUTHENTICATED", session.login(stranger))
    await refused("HANDLE_TAKEN", session.register(p.Device(device.handle)))
    await refused("UNAUTHENTICATED", session.login(stranger))
    await ended("UNAUTHENTICATED", session)


@case()
async def ping_and_pong(world):
    session = await world.new_user("ada")
    pongs = [await session.ask(p.Ping()) for _ in range(20)]
    for pong in pongs:
        answer = await session.answer(pong, "pong")
        assert abs(answer.server_time_ms - time.time() * 1000) < 5000, answer


@case()
async def bye_ends_the_session(world):
    session = await world.new_user("ada")
    await session.tell(p.Bye())
    assert await session.wait_closed() is None


@case()
async def second_session_replaces_the_first(world):
    first = await world.new_user("ada")
    second = await world.login(first.device, world.far)
    await ended("REPLACED", first)
    await second.take("synced")
    third = await world.login(first.device, world.near)
    await ended("REPLACED", second)
    await goes_on(third)


@case(over=[WEBSOCKET])
async def text_message_refused(world):
    session = await world.new_user("ada")
    await session.transport.send("text")
    await session.wait_closed()


@case(over=[WEBSOCKET])
async def subprotocol_required(world):
    for subprotocol in ("columba.v0", None):
        try:
            transport = await WebSocketTransport.connect(world.node.host, world.node.port, subprotocol)
        except websockets.InvalidHandshake:
            continue
        await transport.close()
        raise AssertionError(f"the server accepts the subprotocol {subprotocol}")


@case(over=[QUIC])
async def wrong_alpn_refused(world):
    try:
        await QuicTransport.connect(world.node.host, world.node.port, "columba/0")
    except Closed:
        return
    raise AssertionError("the server speaks columba/0")


@case(over=[QUIC])
async def end_of_the_stream_ends_the_session(world):
    session = await world.new_user("ada")
    await session.transport.send_end()
    await session.wait_closed()


@case(over=[QUIC])
async def frames_cut_and_joined_in_the_stream(world):
    session = await world.new_user("ada")
    pings = [session.expect() for _ in range(3)]
    stream = b"".join(p.record(p.client_frame(request_id, p.Ping())) for request_id, _ in pings)
    for at in range(0, len(stream), 5):
        await session.transport.send_raw(stream[at : at + 5])
        await asyncio.sleep(0.005)
    for _, pong in pings:
        await session.answer(pong, "pong")
