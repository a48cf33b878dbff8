"""What the cases are written with: their list, and for each the world that it runs in."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import protocol as p
from client import PollTransport, QuicTransport, Session, WebSocketTransport, WireError
from node import Node

# Pairs of transports: that of a case's first user, and that of the second.
WEBSOCKET, QUIC = (WebSocketTransport, QuicTransport), (QuicTransport, WebSocketTransport)
POLL = (PollTransport, WebSocketTransport)


@dataclass
class Case:
    """A test over one pair of transports."""

    name: str
    run: Callable[["World"], Awaitable[None]]
    transports: tuple


CASES: list[Case] = []


def case(over=(WEBSOCKET, QUIC, POLL)):
    """Makes a function a test, run once over each of these pairs of transports."""

    def add(run):
        topic = run.__module__.removeprefix("cases_")
        CASES.extend(Case(f"{topic}.{run.__name__} [{pair[0].name}]", run, pair) for pair in over)
        return run

    return add


class World:
    """The shared node, two transports, and what a case opened: it is closed after the case."""

    handles = itertools.count(1)

    def __init__(self, node: Node, transports: tuple):
        self.node = node
        self.near, self.far = transports
        self.sessions: list[Session] = []
        self.own_nodes: list[Node] = []

    def device(self, name: str) -> p.Device:
        """A new device, with a handle that nobody else has."""
        return p.Device(f"{name}-{next(World.handles)}")

    async def connect(self, transport=None, node: Node | None = None) -> Session:
        """An open connection, before Hello."""
        session = await Session.connect(transport or self.near, node or self.node)
        self.sessions.append(session)
        return session

    async def new_user(self, name: str, transport=None, node: Node | None = None) -> Session:
        """A session of a new user, after Synced."""
        session = await self.connect(transport, node)
        await session.register(self.device(name))
        await session.take("synced")
        return session

    async def login(self, device: p.Device, transport=None, node: Node | None = None) -> Session:
        """A new session of a device, after Welcome."""
        session = await self.connect(transport, node)
        await session.login(device)
        return session

    async def alice_and_bob(self, node: Node | None = None) -> tuple[Session, Session]:
        """Two new users, one on each transport."""
        alice, bob = self.new_user("alice", self.near, node), self.new_user("bob", self.far, node)
        return tuple(await asyncio.gather(alice, bob))

    async def start_node(self) -> Node:
        """A node for this case alone."""
        node = Node(self.node.program)
        self.own_nodes.append(node)
        await node.start()
        return node

    async def close(self):
        """Closes every connection; what a reader of one found wrong is raised."""
        results = await asyncio.gather(*(session.close() for session in self.sessions), return_exceptions=True)
        for fault in results:
            if fault is not None:
                raise fault


def chat_of(a: Session, b: Session) -> bytes:
    """The chat of two users."""
    return p.direct_chat(a.device.user_id, b.device.user_id)


async def refused(code: str, request: Awaitable):
    """The request must be answered by this error."""
    try:
        await request
    except WireError as error:
        assert error.code == p.CODES[code], f"{error}, not {code}"
    else:
        raise AssertionError(f"no error, where {code} is due")


async def ended(code: str, session: Session):
    """The server must close, after an Error or Goaway with this code."""
    ending = await session.wait_closed()
    assert ending is not None, f"closed without a frame, where {code} is due"
    assert ending.code == p.CODES[code], f"{WireError(ending)}, not {code}"


async def goes_on(session: Session):
    """The session must still be open."""
    await session.request(p.Ping(), "pong")
