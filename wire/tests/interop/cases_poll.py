"""Long-polling where requests and answers are lost: PROTOCOL.md, section 2."""

import asyncio

import protocol as p
from client import Http, PollTransport, Session
from harness import POLL, case


class CutHttp(Http):
    """Loses an answer each time that the test says so: the connection is cut when the request is out."""

    cuts = 0

    async def _request(self, method, path, token, body):
        if self.cuts > 0:
            self.cuts -= 1
            # Another request, so that there is a connection to cut.
            await super()._request("GET", "/healthz", "", b"")
            self.writer.write(self.head(method, path, token, body) + body)
            await self.writer.drain()
            await self.close()
            raise ConnectionResetError("cut by the test")
        return await super()._request(method, path, token, body)


class Bare:
    """A long-poll session whose requests are made by hand, each on a connection of its own."""

    def __init__(self, place: tuple[str, int], token: str):
        self.place, self.token = place, token

    @classmethod
    async def open(cls, world):
        place = (world.node.host, world.node.port)
        http = Http(*place)
        status, token = await http.request("POST", "/v1/poll")
        await http.close()
        assert status == 201, status
        return cls(place, token.decode())

    async def request(self, method: str, number: int, body: bytes = b"") -> tuple[int, bytes]:
        http = Http(*self.place)
        answer = await http.request(method, f"/v1/poll/{number}", self.token, body)
        await http.close()
        return answer

    async def lose(self, method: str, number: int, body: bytes = b""):
        """The same, and the answer is not read."""
        http = CutHttp(*self.place)
        http.cuts = 1
        try:
            await http.request(method, f"/v1/poll/{number}", self.token, body)
        except ConnectionResetError:
            return
        raise AssertionError("the connection was not cut")


def hello(request_id: int) -> bytes:
    frame = p.ClientFrame(request_id=request_id, hello=p.Hello(versions=[1], agent="columba-interop/1"))
    return p.record(frame.SerializeToString())


def kinds(answer: bytes) -> list[tuple[int, str]]:
    frames = map(p.ServerFrame.FromString, p.Records().push(answer))
    return [(frame.request_id, frame.WhichOneof("kind")) for frame in frames]


@case(over=[POLL])
async def an_answer_that_was_lost_comes_again(world):
    bare = await Bare.open(world)
    await bare.lose("POST", 1, hello(1))
    assert (await bare.request("POST", 1, hello(1)))[0] == 204
    await bare.lose("GET", 1)
    status, first = await bare.request("GET", 1)
    assert status == 200 and kinds(first) == [(1, "challenge")], "taken once, whichever of the two came first"
    assert await bare.request("GET", 1) == (200, first)
    assert (await bare.request("POST", 1, hello(1)))[0] == 204
    assert (await bare.request("POST", 2, hello(2)))[0] == 204
    status, second = await bare.request("GET", 2)
    assert status == 200 and kinds(second) == [(2, "challenge")] and second != first
    assert (await bare.request("GET", 1))[0] == 409, "it was said to have arrived"


@case(over=[POLL])
async def what_a_second_connection_repeats_ends_the_wait_of_the_first(world):
    bare = await Bare.open(world)
    waiting = asyncio.create_task(bare.request("GET", 1))
    # Either of the two may come first: the one that came last has the answer.
    again = asyncio.create_task(bare.request("GET", 1))
    done, (pending,) = await asyncio.wait((waiting, again), return_when=asyncio.FIRST_COMPLETED)
    assert done.pop().result()[0] == 409
    assert (await bare.request("POST", 1, hello(1)))[0] == 204
    status, answer = await pending
    assert status == 200 and kinds(answer) == [(1, "challenge")]


@case(over=[POLL])
async def messages_while_answers_are_lost(world):
    alice, bob = await world.alice_and_bob()
    transport = alice.transport
    assert isinstance(transport, PollTransport) and isinstance(alice, Session)
    lossy = transport.saying = CutHttp(world.node.host, world.node.port)
    # A first request, so that the client repeats the others by itself.
    await alice.request(p.Ping(), "pong")
    for number in range(1, 21):
        lossy.cuts = 1
        assert (await alice.send(bob.device.user_id, b"%d" % number)).seq == number
        assert lossy.cuts == 0
    for number in range(1, 21):
        assert (await bob.receive()).body == b"%d" % number
