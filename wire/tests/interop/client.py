"""Transports and a session: PROTOCOL.md, sections 2 to 11."""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Iterable

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


def tls() -> ssl.SSLContext:
    """TLS 1.3. The certificate is pinned by the caller: names and authorities do not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class WebSocketTransport:
    """Frames as binary messages."""

    name = "websocket"

    def __init__(self, socket, certificate: bytes):
        self.socket = socket
        self.certificate = certificate

    @classmethod
    async def connect(cls, host: str, port: int, subprotocol: str | None = "columba.v1"):
        socket = await websockets.connect(
            f"wss://{host}:{port}/v1/ws",
            ssl=tls(),
            subprotocols=[subprotocol] if subprotocol else None,
            compression=None,
            ping_interval=None,
            max_size=p.FRAME_BYTES_MAX,
            open_timeout=PATIENCE,
            close_timeout=1,
            proxy=None,
        )
        assert socket.subprotocol == subprotocol, f"the server chose the subprotocol {socket.subprotocol!r}"
        return cls(socket, socket.transport.get_extra_info("ssl_object").getpeercert(binary_form=True))

    async def send(self, frame: bytes | str):
        """Sends a frame; text, which is none, as a text message."""
        try:
            await self.socket.send(frame)
        except websockets.ConnectionClosed as closed:
            raise Closed(str(closed)) from closed

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

    def __init__(self, endpoint: asyncio.DatagramTransport, protocol: _QuicProtocol, certificate: bytes):
        self.endpoint = endpoint
        self.protocol = protocol
        self.certificate = certificate
        self.stream = protocol._quic.get_next_available_stream_id()
        self.records = p.Records()
        self.frames = []
        self.ended = False

    @classmethod
    async def connect(cls, host: str, port: int, alpn: str = "columba/1"):
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE, idle_timeout=75.0, server_name=host
        )
        loop = asyncio.get_running_loop()
        endpoint, protocol = await loop.create_datagram_endpoint(
            lambda: _QuicProtocol(QuicConnection(configuration=configuration)), local_addr=("127.0.0.1", 0)
        )
        try:
            protocol.connect((host, port))
            async with asyncio.timeout(PATIENCE):
                event = None
                while not isinstance(event, HandshakeCompleted):
                    event = await protocol.events.get()
                    if isinstance(event, ConnectionTerminated):
                        raise Closed(f"{event.error_code:#x} {event.reason_phrase}")
            assert event.alpn_protocol == alpn, f"the server chose the ALPN {event.alpn_protocol!r}"
        except BaseException:
            endpoint.close()
            raise
        # aioquic has no public access to the peer's certificate; its version is pinned in requirements.txt.
        return cls(endpoint, protocol, protocol._quic.tls._peer_certificate.public_bytes(Encoding.DER))

    async def send(self, frame: bytes):
        await self.send_raw(p.record(frame))

    async def send_raw(self, data: bytes):
        if self.protocol._quic._close_event is not None:
            raise Closed("closed")
        self.protocol._quic.send_stream_data(self.stream, data)
        self.protocol.transmit()

    async def send_end(self):
        """Ends this side of the stream."""
        self.protocol._quic.send_stream_data(self.stream, b"", end_stream=True)
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
        try:
            async with asyncio.timeout(1):
                await self.protocol.wait_closed()
        except TimeoutError:
            pass
        self.endpoint.close()


class Http:
    """One HTTP/1.1 connection over TLS that is kept, and made again where it was closed meanwhile."""

    def __init__(self, host: str, port: int):
        self.host, self.port = host, port
        self.certificate: bytes | None = None
        self.reader = self.writer = None

    async def request(self, method: str, path: str, token: str = "", body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer; once more on a new connection where there is none."""
        fresh = self.writer is None
        try:
            return await self._request(method, path, token, body)
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            if fresh:
                raise
        return await self._request(method, path, token, body)

    async def _request(self, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, ssl=tls())
            self.certificate = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.writer.write(self.head(method, path, token, body) + body)
        await self.writer.drain()
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        answer = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split(" ")[1]), answer

    def head(self, method: str, path: str, token: str, body: bytes) -> bytes:
        """The head of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", f"Content-Length: {len(body)}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode()

    async def close(self):
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close()


class PollTransport:
    """Frames as records in the bodies of requests and answers."""

    name = "poll"

    def __init__(self, asking: Http, saying: Http, token: str):
        self.asking, self.saying, self.token = asking, saying, token
        self.certificate = saying.certificate
        self.records = p.Records()
        self.frames = []
        self.asked = self.said = 0
        self.turn = asyncio.Lock()

    @classmethod
    async def connect(cls, host: str, port: int):
        saying = Http(host, port)
        status, token = await saying.request("POST", "/v1/poll")
        if status != 201:
            raise Closed(f"{status} {token!r}")
        return cls(Http(host, port), saying, token.decode())

    async def send(self, frame: bytes):
        await self.send_raw(p.record(frame))

    async def send_raw(self, data: bytes):
        # One at a time, in order.
        async with self.turn:
            self.said += 1
            try:
                status, why = await self.saying.request("POST", f"/v1/poll/{self.said}", self.token, data)
            except (OSError, asyncio.IncompleteReadError) as error:
                raise Closed(str(error)) from error
        if status != 204:
            raise Closed(f"{status} {why.decode()}")

    async def receive(self) -> bytes:
        while not self.frames:
            self.asked += 1
            try:
                status, answer = await self.asking.request("GET", f"/v1/poll/{self.asked}", self.token)
            except (OSError, asyncio.IncompleteReadError) as error:
                raise Closed(str(error)) from error
            if status != 200:
                raise Closed(f"{status} {answer.decode()}")
            self.frames.extend(self.records.push(answer))
        return self.frames.pop(0)

    async def close(self):
        await self.asking.close()
        await self.saying.close()


TRANSPORTS = (WebSocketTransport, QuicTransport, PollTransport)


class Session:
    """A connection: requests with their answers, and what comes unasked, by kind."""

    def __init__(self, transport):
        self.transport = transport
        self.certificate_hash = hashlib.sha256(transport.certificate).digest()
        self.device: p.Device | None = None
        self.welcome = None
        self.last_id = 0
        self.answers: dict[int, asyncio.Future] = {}
        # What came unasked, in order of arrival, and not taken yet: (kind, message).
        self.inbox: list = []
        self.changed = asyncio.Condition()
        # The newest frame, where it is an Error or a Goaway: once the session is closed, why.
        self.ending = None
        self.closed = False
        self.reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, transport, node):
        """Connects, and holds the server's certificate against the pinned one."""
        session = cls(await transport.connect(node.host, node.port))
        if session.certificate_hash != node.certificate_hash:
            await session.close()
            raise AssertionError("the server presents another certificate than announced")
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
                    self.ending = message if kind in ("error", "goaway") else None
                    if frame.request_id != 0:
                        future = self.answers.pop(frame.request_id, None)
                        assert future is not None, f"an answer ({kind}) to no request: {frame.request_id}"
                        if not future.done():
                            future.set_result((kind, message))
                    elif self.ending is None:
                        self.inbox.append((kind, message))
                    self.changed.notify_all()
        except Closed:
            pass
        finally:
            self.closed = True
            for future in self.answers.values():
                if not future.done():
                    future.set_exception(Closed(self._reason("an answer")))
                    # An answer that nobody waits for any more is no fault.
                    future.exception()
            async with self.changed:
                self.changed.notify_all()

    def _reason(self, awaited: str) -> str:
        return f"before {awaited}" + (f": {WireError(self.ending)}" if self.ending else "")

    async def tell(self, message):
        """Sends a frame that gets no answer."""
        self.last_id += 1
        await self.transport.send(p.client_frame(self.last_id, message))

    def expect(self) -> tuple[int, asyncio.Future]:
        """The next request id, and the future of its answer."""
        if self.closed:
            raise Closed(self._reason("a request"))
        self.last_id += 1
        self.answers[self.last_id] = asyncio.get_running_loop().create_future()
        return self.last_id, self.answers[self.last_id]

    async def ask(self, message) -> asyncio.Future:
        """Sends a request. The future gives (kind, answer)."""
        request_id, future = self.expect()
        await self.transport.send(p.client_frame(request_id, message))
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

    async def take_any(self, kinds: tuple[str, ...], accept=lambda message: True):
        """The next unasked message of these kinds that is accepted, with its kind; others before it are dropped."""
        async with asyncio.timeout(PATIENCE), self.changed:
            while True:
                for at, (kind, message) in enumerate(self.inbox):
                    if kind in kinds and accept(message):
                        self.inbox = [item for item in self.inbox[:at] if item[0] not in kinds] + self.inbox[at + 1 :]
                        return kind, message
                if self.closed:
                    raise Closed(self._reason(" or ".join(kinds)))
                await self.changed.wait()

    async def take(self, kind: str, accept=lambda message: True):
        """The next unasked message of one kind that is accepted."""
        return (await self.take_any((kind,), accept))[1]

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

    async def begin_link(self, device: p.Device, name: str) -> str:
        """Asks for a link code for a device."""
        challenge = await self.hello()
        begin = device.begin_link(challenge.nonce, p.BINDING_SERVER_CERTIFICATE, self.certificate_hash, name)
        return (await self.request(begin, "link_code")).code

    async def linked(self, device: p.Device):
        """Waits until a link was approved, up to Welcome."""
        linked = await self.take("linked")
        device.user_id, device.device_id, device.handle = linked.user_id, linked.device_id, linked.handle
        self.device, self.welcome = device, await self.take("welcome")
        return linked

    async def send(self, to: bytes, body: bytes, client_seq: int | None = None):
        """Sends a message, and waits until it is durable."""
        client_seq = client_seq or self.device.next_client_seq()
        return await self.request(p.Send(client_seq=client_seq, to_user=to, body=body), "sent")

    async def send_all(self, to: bytes, messages: Iterable[tuple[int, bytes]], sent: dict):
        """Sends (client seq, body) in order, as many unanswered as the server allows. `sent` gets every answer."""
        waiting: deque = deque()

        async def settle():
            client_seq, future = waiting.popleft()
            sent[client_seq] = await self.answer(future, "sent")

        for client_seq, body in messages:
            if len(waiting) == self.welcome.sends_in_flight_max:
                await settle()
            waiting.append((client_seq, await self.ask(p.Send(client_seq=client_seq, to_user=to, body=body))))
        while waiting:
            await settle()

    async def keep(self, deliver, ack: bool = True) -> bool:
        """Stores a delivered message, and acknowledges it if wanted. Whether it is new to the device."""
        is_new = deliver.seq > self.device.delivered.get(deliver.chat_id, 0)
        if is_new:
            self.device.delivered[deliver.chat_id] = deliver.seq
        if ack:
            await self.tell(p.Ack(chat_id=deliver.chat_id, seq=deliver.seq))
        return is_new

    async def receive(self, ack: bool = True):
        """The next message that is new to the device, acknowledged if wanted."""
        while True:
            deliver = await self.take("deliver")
            if await self.keep(deliver, ack):
                return deliver

    async def catch_up(self, ack: bool = True) -> list:
        """Every message up to Synced, known ones too, acknowledged if wanted."""
        delivered = []
        while (item := await self.take_any(("deliver", "synced")))[0] == "deliver":
            delivered.append(item[1])
            await self.keep(item[1], ack)
        return delivered

    async def close(self):
        """Closes from this side. A frame that the server should not have sent comes to light here at the latest."""
        await self.transport.close()
        self.reader.cancel()
        await asyncio.wait([self.reader])
        if not self.reader.cancelled():
            self.reader.result()

    async def bye(self):
        """Takes leave: the server closes."""
        await self.tell(p.Bye())
        await self.wait_closed()
        await self.close()
