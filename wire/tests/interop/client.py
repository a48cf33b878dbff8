"""Transports and a session: PROTOCOL.md, sections 2 to 11."""

import asyncio
import hashlib
import ssl

import websockets
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived, StreamReset
from cryptography.hazmat.primitives.serialization import Encoding

import protocol as p

# Seconds for any one thing to happen.
PATIENCE = 8.0


class WireError(Exception):
    """An `Error` from the server."""

    def __init__(self, error):
        self.code = error.code
        super().__init__(f"{p.NAMES.get(error.code, error.code)}: {error.message}")


class Closed(Exception):
    """The connection is closed."""


class WebSocketTransport:
    """Frames as binary messages."""

    name = "websocket"

    def __init__(self, socket, certificate: bytes):
        self.socket = socket
        self.certificate = certificate

    @classmethod
    async def connect(cls, host: str, port: int):
        # The certificate is pinned by the caller: names and authorities do not matter.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        socket = await websockets.connect(
            f"wss://{host}:{port}/v1/ws",
            ssl=context,
            subprotocols=["columba.v1"],
            compression=None,
            ping_interval=None,
            max_size=p.FRAME_BYTES_MAX,
            open_timeout=PATIENCE,
            close_timeout=1,
            proxy=None,
        )
        assert socket.subprotocol == "columba.v1", f"the server chose the subprotocol {socket.subprotocol!r}"
        return cls(socket, socket.transport.get_extra_info("ssl_object").getpeercert(binary_form=True))

    async def send(self, frame: bytes):
        await self.socket.send(frame)

    async def send_text(self, text: str):
        await self.socket.send(text)

    async def receive(self) -> bytes:
        try:
            message = await self.socket.recv()
        except websockets.ConnectionClosed as closed:
            raise Closed(str(closed)) from closed
        assert isinstance(message, bytes), "the server sent a text message"
        return message

    async def close(self):
        await self.socket.close()


class _QuicProtocol(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.events = asyncio.Queue()

    def quic_event_received(self, event):
        self.events.put_nowait(event)


class QuicTransport:
    """Frames as records of one bidirectional stream."""

    name = "quic"

    def __init__(self, protocol: _QuicProtocol, certificate: bytes):
        self.protocol = protocol
        self.certificate = certificate
        self.stream = protocol._quic.get_next_available_stream_id()
        self.records = p.Records()
        self.frames = []
        self.ended = False

    @classmethod
    async def connect(cls, host: str, port: int):
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=["columba/1"], verify_mode=ssl.CERT_NONE, idle_timeout=75.0, server_name=host
        )
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(
            lambda: _QuicProtocol(QuicConnection(configuration=configuration)), local_addr=("127.0.0.1", 0)
        )
        protocol.connect((host, port))
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await protocol.events.get()
                if isinstance(event, HandshakeCompleted):
                    break
                if isinstance(event, ConnectionTerminated):
                    raise Closed(event.reason_phrase)
        assert event.alpn_protocol == "columba/1", f"the server chose the ALPN {event.alpn_protocol!r}"
        # aioquic has no public access to the peer's certificate; its version is pinned in requirements.txt.
        return cls(protocol, protocol._quic.tls._peer_certificate.public_bytes(Encoding.DER))

    async def send(self, frame: bytes):
        await self.send_raw(p.record(frame))

    async def send_raw(self, data: bytes):
        if self.protocol._quic._close_event is not None:
            raise Closed("closed")
        self.protocol._quic.send_stream_data(self.stream, data)
        self.protocol.transmit()

    async def receive(self) -> bytes:
        while not self.frames:
            if self.ended:
                raise Closed("the stream has ended")
            event = await self.protocol.events.get()
            if isinstance(event, ConnectionTerminated):
                self.ended = True
            elif isinstance(event, StreamReset) and event.stream_id == self.stream:
                self.ended = True
            elif isinstance(event, StreamDataReceived) and event.stream_id == self.stream:
                self.frames.extend(self.records.push(event.data))
                self.ended = event.end_stream
        return self.frames.pop(0)

    async def close(self):
        self.protocol.close()
        self.protocol.transmit()
        try:
            async with asyncio.timeout(1):
                await self.protocol.wait_closed()
        except TimeoutError:
            pass


TRANSPORTS = (WebSocketTransport, QuicTransport)


class Session:
    """A connection: requests with their answers, and what comes unasked, by kind."""

    def __init__(self, transport):
        self.transport = transport
        self.certificate_hash = hashlib.sha256(transport.certificate).digest()
        self.device = None
        self.welcome = None
        self.last_id = 0
        self.answers: dict[int, asyncio.Future] = {}
        # What came unasked, in order of arrival, and not taken yet: (kind, message).
        self.inbox: list = []
        self.changed = asyncio.Condition()
        # The Error or Goaway that ended the session.
        self.ending = None
        self.closed = False
        self.reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, transport, node):
        """Connects, and holds the server's certificate against the pinned one."""
        session = cls(await transport.connect(node.host, node.port))
        assert session.certificate_hash == node.certificate_hash, "the server presents another certificate than announced"
        return session

    async def _read(self):
        try:
            while True:
                frame = p.ServerFrame.FromString(await self.transport.receive())
                kind = frame.WhichOneof("kind")
                if kind is None:
                    continue
                message = getattr(frame, kind)
                async with self.changed:
                    if frame.request_id != 0:
                        future = self.answers.pop(frame.request_id, None)
                        assert future is not None, f"an answer ({kind}) to no request: {frame.request_id}"
                        if not future.done():
                            future.set_result((kind, message))
                        if kind == "error":
                            self.ending = self.ending or message
                    elif kind in ("error", "goaway"):
                        self.ending = message
                    else:
                        self.inbox.append((kind, message))
                    self.changed.notify_all()
        except Closed:
            pass
        finally:
            self.closed = True
            for future in self.answers.values():
                if not future.done():
                    future.set_exception(WireError(self.ending) if self.ending else Closed("before the answer"))
                    # An answer that nobody waits for any more is no fault.
                    future.exception()
            async with self.changed:
                self.changed.notify_all()

    async def tell(self, message) -> int:
        """Sends a frame, without waiting for an answer."""
        self.last_id += 1
        await self.transport.send(p.client_frame(self.last_id, message))
        return self.last_id

    async def ask(self, message) -> asyncio.Future:
        """Sends a request. The future gives (kind, answer)."""
        future = asyncio.get_running_loop().create_future()
        self.answers[self.last_id + 1] = future
        await self.tell(message)
        return future

    async def answer(self, future: asyncio.Future, kind: str):
        """The answer to a request, which must be of this kind."""
        async with asyncio.timeout(PATIENCE):
            got, message = await future
        if got == "error":
            raise WireError(message)
        assert got == kind, f"the answer is {got}, not {kind}"
        return message

    async def request(self, message, kind: str):
        """Asks, and waits for the answer."""
        return await self.answer(await self.ask(message), kind)

    async def take(self, kind: str, accept=lambda message: True):
        """The next unasked message of a kind that is accepted; others of the kind before it are dropped."""
        async with asyncio.timeout(PATIENCE), self.changed:
            while True:
                for at, (got, message) in enumerate(self.inbox):
                    if got == kind and accept(message):
                        self.inbox = [item for item in self.inbox[:at] if item[0] != kind] + self.inbox[at + 1 :]
                        return message
                if self.closed:
                    raise Closed(f"before a {kind}" + (f": {WireError(self.ending)}" if self.ending else ""))
                await self.changed.wait()

    async def wait_closed(self):
        """Waits until the server has closed; gives the frame that said why, if any."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: self.closed)
        return self.ending

    async def hello(self, versions=(1,)):
        """The first frame, and the server's challenge."""
        hello = p.Hello(versions=versions, agent="columba-interop/1")
        return await self.request(hello, "challenge")

    async def register(self, device: p.Device):
        """Registers a device, up to Welcome."""
        challenge = await self.hello()
        register = device.register(challenge.nonce, p.BINDING_SERVER_CERTIFICATE, self.certificate_hash)
        registered = await self.request(register, "registered")
        device.user_id, device.device_id = registered.user_id, registered.device_id
        self.device, self.welcome = device, await self.take("welcome")
        return registered

    async def login(self, device: p.Device):
        """Logs a device in, up to Welcome."""
        challenge = await self.hello()
        login = device.login(challenge.nonce, p.BINDING_SERVER_CERTIFICATE, self.certificate_hash)
        self.device, self.welcome = device, await self.request(login, "welcome")

    async def send(self, to: bytes, body: bytes, client_seq: int | None = None):
        """Sends a message, and waits until it is durable."""
        client_seq = client_seq or self.device.next_client_seq()
        return await self.request(p.Send(client_seq=client_seq, to_user=to, body=body), "sent")

    async def receive(self, ack: bool = True):
        """The next message that is new to the device, acknowledged if wanted."""
        while True:
            deliver = await self.take("deliver")
            if ack:
                await self.tell(p.Ack(chat_id=deliver.chat_id, seq=deliver.seq))
            highest = self.device.delivered.get(deliver.chat_id, 0)
            if deliver.seq > highest:
                self.device.delivered[deliver.chat_id] = deliver.seq
                return deliver

    async def close(self):
        """Closes from this side."""
        await self.transport.close()
        self.reader.cancel()
        await asyncio.gather(self.reader, return_exceptions=True)

    async def bye(self):
        """Takes leave, and closes."""
        await self.tell(p.Bye())
        await self.wait_closed()
        await self.close()
