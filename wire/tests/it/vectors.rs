//! The test vectors of PROTOCOL.md: computed here with the crate, and found there.

use bytes::{Bytes, BytesMut};
use columba_wire::{
    ChatId, ClientSeq, DeviceAddress, DeviceId, PreKeyId, UserId,
    auth::{Binding, link_bytes, login_bytes, register_bytes},
    frame::{decode_client, decode_server, encode},
    framing::{Deframer, encode_framed},
    keys::{PreKeyKind, identity_key_bytes, pre_key_bytes},
    v1::{
        self, ClientFrame, Deliver, Hello, MessageBody, MessageRef, ServerFrame, client_frame, message_body,
        server_frame,
    },
};
use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;

use crate::document::PROTOCOL;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn counted<const N: usize>(from: u8) -> [u8; N] {
    let mut next = from;
    [0; N].map(|_| {
        let byte = next;
        next += 1;
        byte
    })
}

fn check(name: &str, bytes: &[u8]) {
    let line = format!("\n{name} = {}\n", hex(bytes));
    assert!(PROTOCOL.contains(&line), "PROTOCOL.md lacks the vector{line}");
}

fn users() -> (UserId, UserId) {
    let a = "00112233445566778899aabbccddeeff".parse().expect("32 hex digits");
    let b = "ffeeddccbbaa99887766554433221100".parse().expect("32 hex digits");
    (a, b)
}

#[test]
fn ids_match_the_published_vectors() {
    let (a, b) = users();
    check("user.a", a.as_bytes());
    check("user.b", b.as_bytes());
    check("chat.a_b", ChatId::direct(a, b).as_bytes());
    check("chat.a_b", ChatId::direct(b, a).as_bytes());
    check("chat.a_a", ChatId::direct(a, a).as_bytes());
    let creator = DeviceAddress { user: a, device: DeviceId::FIRST };
    check("chat.group", ChatId::group(creator, ClientSeq::new(7)).as_bytes());
}

#[test]
fn signatures_match_the_published_vectors() {
    let key = SigningKey::from_bytes(&counted(0));
    let device_key = key.verifying_key().to_bytes();
    let nonce = counted(32);
    let data = counted(64);
    check("device.seed", &key.to_bytes());
    check("device.key", &device_key);
    check("nonce", &nonce);
    check("binding.data", &data);

    let address = DeviceAddress { user: users().0, device: DeviceId::FIRST };
    let certificate = Binding { data: Some(data), ..Binding::server_certificate(b"") };
    let bindings = [
        ("none", Binding::NONE),
        ("tls_exporter", Binding::tls_exporter(data)),
        ("server_certificate", certificate.clone()),
    ];
    for (name, binding) in bindings {
        let signed = login_bytes(&nonce, &binding, address);
        check(&format!("login.{name}.bytes"), &signed);
        check(&format!("login.{name}.signature"), &key.sign(&signed).to_bytes());
    }
    let signed = register_bytes(&nonce, &certificate, &device_key, "ada");
    check("register.server_certificate.bytes", &signed);
    check("register.server_certificate.signature", &key.sign(&signed).to_bytes());
    let signed = link_bytes(&nonce, &certificate, &device_key, "laptop");
    check("link.server_certificate.bytes", &signed);
    check("link.server_certificate.signature", &key.sign(&signed).to_bytes());
}

#[test]
fn signed_keys_match_the_published_vectors() {
    let device = SigningKey::from_bytes(&counted(0));
    let address = DeviceAddress { user: users().0, device: DeviceId::FIRST };
    let (key, id) = (counted(96), PreKeyId::new(7));
    check("keys.x25519", &key);
    for (name, signed) in [
        ("identity", identity_key_bytes(address, &key)),
        ("fallback", pre_key_bytes(PreKeyKind::Fallback, address, id, &key)),
        ("one_time", pre_key_bytes(PreKeyKind::OneTime, address, id, &key)),
    ] {
        check(&format!("keys.{name}.bytes"), &signed);
        check(&format!("keys.{name}.signature"), &device.sign(&signed).to_bytes());
    }
}

#[test]
fn frames_match_the_published_vectors() {
    let hello = Hello { versions: vec![1], capabilities: 0, agent: "example/1".to_owned() };
    let hello = ClientFrame { request_id: 1, kind: Some(client_frame::Kind::Hello(hello)) };
    check("frame.hello", &encode(&hello));
    assert_eq!(decode_client(encode(&hello)).unwrap(), hello);

    let mut stream = BytesMut::new();
    encode_framed(&hello, &mut stream);
    check("stream.hello", &stream);
    let mut deframer = Deframer::new(1024);
    deframer.push(&stream);
    assert_eq!(decode_client(deframer.next_frame().unwrap().unwrap()).unwrap(), hello);

    let (a, b) = users();
    let deliver = Deliver {
        timer_s: 0,
        chat_id: Bytes::copy_from_slice(ChatId::direct(a, b).as_bytes()),
        seq: 300,
        sender_user: Bytes::copy_from_slice(b.as_bytes()),
        sender_device: 1,
        time_ms: 1_700_000_000_000,
        body: Bytes::from_static(b"hi"),
        change: None,
    };
    let deliver = ServerFrame { request_id: 0, kind: Some(server_frame::Kind::Deliver(deliver)) };
    check("frame.deliver", &encode(&deliver));
    assert_eq!(decode_server(encode(&deliver)).unwrap(), deliver);
}

#[test]
fn bodies_match_the_published_vectors() {
    use message_body::Kind;
    let target = |seq| Some(MessageRef { seq });
    let reply = MessageBody { reply_to: target(3), kind: Some(Kind::Text(v1::Text { text: "hi".to_owned() })) };
    let thumbs_up = v1::Reaction { target: target(300), emoji: "👍".to_owned() };
    let reaction = MessageBody { reply_to: None, kind: Some(Kind::Reaction(thumbs_up)) };
    for (name, body) in [("message.reply", reply), ("message.reaction", reaction)] {
        check(name, &[&[0, 1], &body.encode_to_vec()[..]].concat());
    }
}
