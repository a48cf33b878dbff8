"""The pure parts of the protocol: schema, identifiers, signed bytes, stream records. Only the schema needs files."""

import base64
import hashlib
import pathlib
import re
import sys
import tempfile

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError
from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
PROTOCOL_MD = HERE.parent.parent / "PROTOCOL.md"

_generated = tempfile.TemporaryDirectory(prefix="columba-proto-")
_sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("columba/v1/*.proto"))
if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={_generated.name}", *_sources]) != 0:
    sys.exit("the schema does not compile")
sys.path.insert(0, _generated.name)

from columba.v1 import (  # noqa: E402
    chat_pb2,
    device_pb2,
    frame_pb2,
    group_pb2,
    keys_pb2,
    message_pb2,
    people_pb2,
    presence_pb2,
    session_pb2,
    signal_pb2,
    sync_pb2,
)

Ack, Deliver, FindUser, GetReceipts = chat_pb2.Ack, chat_pb2.Deliver, chat_pb2.FindUser, chat_pb2.GetReceipts
Read, Send = chat_pb2.Read, chat_pb2.Send
AddMembers, CreateGroup, GetChat = group_pb2.AddMembers, group_pb2.CreateGroup, group_pb2.GetChat
GroupChange, LeaveGroup, RemoveMembers = group_pb2.GroupChange, group_pb2.LeaveGroup, group_pb2.RemoveMembers
SetLook, SetRole, GetChats = group_pb2.SetLook, group_pb2.SetRole, group_pb2.GetChats
SetInvite, JoinGroup, GetInvite = group_pb2.SetInvite, group_pb2.JoinGroup, group_pb2.GetInvite
SetTimer = group_pb2.SetTimer
ClientFrame, ServerFrame = frame_pb2.ClientFrame, frame_pb2.ServerFrame
Bye, Hello, Login, Ping, Register = (
    session_pb2.Bye,
    session_pb2.Hello,
    session_pb2.Login,
    session_pb2.Ping,
    session_pb2.Register,
)
GetHistory = sync_pb2.GetHistory
ApproveLink, BeginLink, GetDevices = device_pb2.ApproveLink, device_pb2.BeginLink, device_pb2.GetDevices
GetLink, RenameDevice, RevokeDevice = device_pb2.GetLink, device_pb2.RenameDevice, device_pb2.RevokeDevice
GetAccount, GetUser, SetProfile = people_pb2.GetAccount, people_pb2.GetUser, people_pb2.SetProfile
GetContacts, SetContacts = people_pb2.GetContacts, people_pb2.SetContacts
SetBlocked, SetPrivacy = people_pb2.SetBlocked, people_pb2.SetPrivacy
DeleteAccount = people_pb2.DeleteAccount
AUDIENCE_CONTACTS, AUDIENCE_NOBODY = people_pb2.AUDIENCE_CONTACTS, people_pb2.AUDIENCE_NOBODY
GetKeys, PreKey, PutKeys = keys_pb2.GetKeys, keys_pb2.PreKey, keys_pb2.PutKeys
SubscribePresence = presence_pb2.SubscribePresence
Call, SendSignal, SignalBody, Typing = signal_pb2.Call, signal_pb2.SendSignal, signal_pb2.SignalBody, signal_pb2.Typing
CallEvent, Delete, Edit, Media = message_pb2.CallEvent, message_pb2.Delete, message_pb2.Edit, message_pb2.Media
MessageBody, MessageRef = message_pb2.MessageBody, message_pb2.MessageRef
Reaction, System, Text = message_pb2.Reaction, message_pb2.System, message_pb2.Text
CALL_OUTCOME_ANSWERED, SYSTEM_KIND_NOTE = message_pb2.CALL_OUTCOME_ANSWERED, message_pb2.SYSTEM_KIND_NOTE
CALL_STEP_OFFER, CALL_STEP_ANSWER = signal_pb2.CALL_STEP_OFFER, signal_pb2.CALL_STEP_ANSWER

BINDING_NONE, BINDING_TLS_EXPORTER, BINDING_SERVER_CERTIFICATE = 0, 1, 2
REGISTRATION_OPEN = 1
FRAME_BYTES_MAX, FRAME_BYTES_UNAUTHENTICATED_MAX, BODY_BYTES_MAX = 131072, 8192, 65536
PROFILE_FIELD_BYTES_MAX, ONE_TIME_KEYS_MAX, KEYS_LOW_AT = 512, 100, 20
DEDUP_WINDOW, HISTORY_PAGE_MAX, HISTORY_PAGE_BYTES_MAX, PRESENCE_SUBSCRIPTIONS_MAX = 64, 100, 98304, 256
DEVICES_MAX, DEVICE_NAME_BYTES_MAX = 8, 64
GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX, CONTACTS_MAX = 1024, 256, 2048
CHATS_PAGE_MAX = 256
SIGNAL_BYTES_MAX = 16384

# Section 12.
CODES = {
    "MALFORMED": 1,
    "FRAME_TOO_LARGE": 2,
    "UNSUPPORTED_VERSION": 3,
    "UNEXPECTED": 4,
    "INVALID_ARGUMENT": 5,
    "UNAUTHENTICATED": 10,
    "HANDLE_TAKEN": 13,
    "REPLACED": 14,
    "REVOKED": 15,
    "LINK_UNKNOWN": 16,
    "UNKNOWN_USER": 20,
    "UNKNOWN_CHAT": 21,
    "BODY_TOO_LARGE": 22,
    "CLIENT_SEQ_TOO_OLD": 23,
    "TOO_MANY_SUBSCRIPTIONS": 24,
    "NOT_ALLOWED": 25,
    "INVITE_UNKNOWN": 26,
    "TOO_MANY": 28,
    "TOO_MANY_IN_FLIGHT": 30,
    "UNAVAILABLE": 40,
}
NAMES = {number: name for name, number in CODES.items()}


def direct_chat(a: bytes, b: bytes) -> bytes:
    """Section 5: the chat of two users."""
    low, high = sorted((a, b))
    return hashlib.sha256(b"columba/1 direct" + low + high).digest()[:16]


def group_chat(user_id: bytes, device_id: int, client_seq: int) -> bytes:
    """Section 5: the group that a device has made by the Send with this client seq."""
    made = user_id + device_id.to_bytes(4, "big") + client_seq.to_bytes(8, "big")
    return hashlib.sha256(b"columba/1 group" + made).digest()[:16]


def invite_link(chat_id: bytes, secret: bytes) -> str:
    """Section 19: what people pass on."""
    return "columba:group/" + base64.urlsafe_b64encode(chat_id + secret).decode().rstrip("=")


def parse_invite(link: str) -> tuple[bytes, bytes]:
    """The group and the secret of a link."""
    both = base64.urlsafe_b64decode(link.removeprefix("columba:group/") + "=")
    return both[:16], both[16:]


def login_bytes(nonce: bytes, binding: int, data: bytes, user_id: bytes, device_id: int) -> bytes:
    """Section 4: what a login signs."""
    return b"columba/1 login\0" + nonce + bytes([binding]) + data + user_id + device_id.to_bytes(4, "big")


def register_bytes(nonce: bytes, binding: int, data: bytes, device_key: bytes, handle: str) -> bytes:
    """Section 4: what a registration signs."""
    return b"columba/1 register\0" + nonce + bytes([binding]) + data + device_key + handle.encode()


def link_bytes(nonce: bytes, binding: int, data: bytes, device_key: bytes, name: str) -> bytes:
    """Section 4: what a device that wants to be linked signs."""
    return b"columba/1 link\0" + nonce + bytes([binding]) + data + device_key + name.encode()


def identity_key_bytes(user_id: bytes, device_id: int, key: bytes) -> bytes:
    """Section 18: what the signature of an identity key covers."""
    return b"columba/1 identity key\0" + user_id + device_id.to_bytes(4, "big") + key


def pre_key_bytes(kind: str, user_id: bytes, device_id: int, key_id: int, key: bytes) -> bytes:
    """Section 18: what the signature of a pre-key covers; the kind is "fallback" or "one-time"."""
    context = f"columba/1 {kind} key\0".encode()
    return context + user_id + device_id.to_bytes(4, "big") + key_id.to_bytes(8, "big") + key


def typed(**body) -> bytes:
    """Section 21: the body of a typed message; the fields of MessageBody as keywords."""
    return b"\0\1" + MessageBody(**body).SerializeToString()


def text_of(body: bytes) -> str | None:
    """Section 21: what a body says, plain or typed; nothing where it says nothing, or is not understood."""
    if body[:1] != b"\0":
        return body.decode(errors="replace")
    try:
        read = MessageBody.FromString(body[2:]) if body[1:2] == b"\1" else MessageBody()
    except DecodeError:
        return None
    return read.text.text if read.WhichOneof("kind") == "text" else None


def record(frame: bytes) -> bytes:
    """Section 2: a frame as a record of a QUIC stream."""
    return len(frame).to_bytes(4, "big") + frame


class Records:
    """Cuts a QUIC stream into frames."""

    def __init__(self):
        self.buffer = bytearray()

    def push(self, data: bytes):
        """Takes received bytes; yields the frames that are whole now."""
        self.buffer += data
        while len(self.buffer) >= 4:
            length = int.from_bytes(self.buffer[:4], "big")
            if length > FRAME_BYTES_MAX:
                raise ValueError(f"the server announces a frame of {length} bytes")
            if len(self.buffer) < 4 + length:
                return
            frame = bytes(self.buffer[4 : 4 + length])
            del self.buffer[: 4 + length]
            yield frame


def kind_of(message) -> str:
    """The name of the field of `ClientFrame` that holds a message: the message's own name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(message).__name__).lower()


def client_frame(request_id: int, message) -> bytes:
    """A frame of a client, encoded."""
    frame = ClientFrame(request_id=request_id)
    field = getattr(frame, kind_of(message))
    field.SetInParent()
    field.CopyFrom(message)
    return frame.SerializeToString()


class Device:
    """A device's key and, once it is registered, its address."""

    def __init__(self, handle: str, key: Ed25519PrivateKey | None = None):
        self.handle = handle
        self.key = key or Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw()
        self.user_id = b""
        self.device_id = 0
        self.client_seq = 0
        # Per chat, the highest seq that came by Deliver and was stored.
        self.delivered: dict[bytes, int] = {}

    def login(self, nonce: bytes, binding: int, data: bytes) -> "Login":
        """A signed login for a nonce."""
        signature = self.key.sign(login_bytes(nonce, binding, data, self.user_id, self.device_id))
        return Login(user_id=self.user_id, device_id=self.device_id, binding=binding, signature=signature)

    def register(self, nonce: bytes, binding: int, data: bytes) -> "Register":
        """A signed registration for a nonce."""
        signature = self.key.sign(register_bytes(nonce, binding, data, self.public_key, self.handle))
        return Register(handle=self.handle, device_key=self.public_key, binding=binding, signature=signature)

    def begin_link(self, nonce: bytes, binding: int, data: bytes, name: str) -> "BeginLink":
        """A signed wish to be linked, for a nonce."""
        signature = self.key.sign(link_bytes(nonce, binding, data, self.public_key, name))
        return BeginLink(device_key=self.public_key, name=name, binding=binding, signature=signature)

    def pre_key(self, kind: str, key_id: int) -> "PreKey":
        """A signed pre-key. What it would decrypt with is not kept: nothing is encrypted here."""
        key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        signature = self.key.sign(pre_key_bytes(kind, self.user_id, self.device_id, key_id, key))
        return PreKey(id=key_id, key=key, signature=signature)

    def put_keys(self, fallback: int, one_time) -> "PutKeys":
        """A signed identity key, a fallback, and one-time keys."""
        key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        return PutKeys(
            identity_key=key,
            identity_signature=self.key.sign(identity_key_bytes(self.user_id, self.device_id, key)),
            fallback=self.pre_key("fallback", fallback),
            one_time=[self.pre_key("one-time", key_id) for key_id in one_time],
        )

    def next_client_seq(self) -> int:
        """A number for a new message."""
        self.client_seq += 1
        return self.client_seq


def vectors() -> dict[str, bytes]:
    """The test vectors of PROTOCOL.md."""
    text = PROTOCOL_MD.read_text().split("```text\n", 1)[1].split("```", 1)[0]
    return {name: bytes.fromhex(value) for name, value in re.findall(r"^(\S+) = ([0-9a-f]+)$", text, re.M)}
