"""The client's pure parts against the test vectors of PROTOCOL.md."""

import re
import unittest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import protocol as p


class Pure(unittest.TestCase):
    def setUp(self):
        self.v = p.vectors()
        self.device = p.Device("ada", Ed25519PrivateKey.from_private_bytes(self.v["device.seed"]))
        self.device.user_id, self.device.device_id = self.v["user.a"], 1

    def test_chat_ids(self):
        a, b = self.v["user.a"], self.v["user.b"]
        self.assertEqual(p.direct_chat(a, b), self.v["chat.a_b"])
        self.assertEqual(p.direct_chat(b, a), self.v["chat.a_b"])
        self.assertEqual(p.direct_chat(a, a), self.v["chat.a_a"])
        self.assertEqual(p.group_chat(a, 1, 7), self.v["chat.group"])

    def test_signatures(self):
        self.assertEqual(self.device.public_key, self.v["device.key"])
        nonce, data = self.v["nonce"], self.v["binding.data"]
        for binding, name in enumerate(("none", "tls_exporter", "server_certificate")):
            used = data if binding else b""
            signed = p.login_bytes(nonce, binding, used, self.v["user.a"], 1)
            self.assertEqual(signed, self.v[f"login.{name}.bytes"])
            login = self.device.login(nonce, binding, used)
            self.assertEqual(login.signature, self.v[f"login.{name}.signature"])
        signed = p.register_bytes(nonce, 2, data, self.device.public_key, "ada")
        self.assertEqual(signed, self.v["register.server_certificate.bytes"])
        register = self.device.register(nonce, 2, data)
        self.assertEqual(register.signature, self.v["register.server_certificate.signature"])
        signed = p.link_bytes(nonce, 2, data, self.device.public_key, "laptop")
        self.assertEqual(signed, self.v["link.server_certificate.bytes"])
        link = self.device.begin_link(nonce, 2, data, "laptop")
        self.assertEqual(link.signature, self.v["link.server_certificate.signature"])

    def test_signed_keys(self):
        user, key = self.v["user.a"], self.v["keys.x25519"]
        signed = {
            "identity": p.identity_key_bytes(user, 1, key),
            "fallback": p.pre_key_bytes("fallback", user, 1, 7, key),
            "one_time": p.pre_key_bytes("one-time", user, 1, 7, key),
        }
        for name, data in signed.items():
            self.assertEqual(data, self.v[f"keys.{name}.bytes"])
            self.assertEqual(self.device.key.sign(data), self.v[f"keys.{name}.signature"])

    def test_bodies(self):
        reply = p.typed(reply_to=p.MessageRef(seq=3), text=p.Text(text="hi"))
        self.assertEqual(reply, self.v["message.reply"])
        reaction = p.typed(reaction=p.Reaction(target=p.MessageRef(seq=300), emoji="\U0001f44d"))
        self.assertEqual(reaction, self.v["message.reaction"])
        says = {reply: "hi", reaction: None, b"hi": "hi", b"": "", b"\0": None, b"\0\2hi": None, b"\0\1\xff": None}
        for body, text in says.items():
            self.assertEqual(p.text_of(body), text, body)

    def test_frames(self):
        hello = p.client_frame(1, p.Hello(versions=[1], agent="example/1"))
        self.assertEqual(hello, self.v["frame.hello"])
        self.assertEqual(p.record(hello), self.v["stream.hello"])
        deliver = p.ServerFrame.FromString(self.v["frame.deliver"])
        self.assertEqual(deliver.WhichOneof("kind"), "deliver")
        self.assertEqual((deliver.deliver.seq, deliver.deliver.body), (300, b"hi"))
        self.assertEqual(deliver.deliver.chat_id, self.v["chat.a_b"])

    def test_empty_messages_have_a_kind(self):
        for message in (p.Ping(), p.Bye(), p.SubscribePresence(), p.GetDevices()):
            frame = p.ClientFrame.FromString(p.client_frame(7, message))
            self.assertEqual(frame.WhichOneof("kind"), p.kind_of(message))

    def test_records_are_whole_wherever_the_stream_is_cut(self):
        frames = [b"", b"one", b"x" * 500]
        stream = b"".join(map(p.record, frames))
        for cut in range(len(stream) + 1):
            records = p.Records()
            self.assertEqual([*records.push(stream[:cut]), *records.push(stream[cut:])], frames)
        with self.assertRaises(ValueError):
            list(p.Records().push((p.FRAME_BYTES_MAX + 1).to_bytes(4, "big")))

    def test_codes_and_limits_are_those_of_the_document(self):
        text = p.PROTOCOL_MD.read_text()
        rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|.*\| (?:yes|no) \|$", text, re.M)
        codes = {name: int(number) for number, name in rows}
        for name, number in p.CODES.items():
            self.assertEqual(codes[name], number, name)
        limits = ("FRAME_BYTES_MAX", "FRAME_BYTES_UNAUTHENTICATED_MAX", "BODY_BYTES_MAX", "DEDUP_WINDOW")
        pages = ("HISTORY_PAGE_MAX", "HISTORY_PAGE_BYTES_MAX", "PRESENCE_SUBSCRIPTIONS_MAX")
        devices = ("DEVICES_MAX", "DEVICE_NAME_BYTES_MAX")
        people = ("PROFILE_FIELD_BYTES_MAX", "ONE_TIME_KEYS_MAX", "KEYS_LOW_AT")
        for name in limits + pages + devices + people:
            self.assertIn(f"| `{name}` | {getattr(p, name)} |", text)


if __name__ == "__main__":
    unittest.main()
