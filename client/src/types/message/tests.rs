//! Bodies between two clients, of this version and of others.

use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::*;

const PROTOCOL: &str = include_str!("../../../../wire/PROTOCOL.md");

fn seq() -> impl Strategy<Value = MessageSeq> {
    (1..=u64::MAX).prop_map(MessageSeq::new)
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn media() -> impl Strategy<Value = Media> {
    let texts = (".{0,30}", ".{0,60}", ".{0,200}");
    let rest = (bytes(300), bytes(64), option::of(any::<[u8; 32]>()));
    (vec(any::<u8>(), 1..=512), any::<u64>(), texts, rest).prop_map(|(reference, size, texts, rest)| {
        let ((media_type, name, caption), (thumbnail, key, digest)) = (texts, rest);
        Media { reference: reference.into(), media_type, size, name, caption, thumbnail, key, digest }
    })
}

fn kind() -> impl Strategy<Value = MessageKind> {
    let outcome = prop_oneof![
        Just(CallOutcome::Unknown),
        Just(CallOutcome::Answered),
        Just(CallOutcome::Missed),
        Just(CallOutcome::Declined),
        Just(CallOutcome::Busy),
        Just(CallOutcome::Failed),
    ];
    let call =
        (any::<[u8; 16]>(), outcome, any::<u32>(), any::<bool>()).prop_map(|(id, outcome, duration_s, video)| {
            MessageKind::CallEvent(CallEvent { id: CallId::from_bytes(id), outcome, duration_s, video })
        });
    let note = prop_oneof![Just(NoteKind::Text), Just(NoteKind::SecurityCodeChanged)];
    prop_oneof![
        ".{0,300}".prop_map(MessageKind::Text),
        media().prop_map(MessageKind::Media),
        call,
        (note, ".{0,200}").prop_map(|(kind, text)| MessageKind::Note(Note { kind, text })),
        (seq(), "\\PC{0,16}").prop_map(|(target, emoji)| MessageKind::Reaction { target, emoji }),
        (seq(), ".{0,300}").prop_map(|(target, text)| MessageKind::Edit { target, text }),
        seq().prop_map(|target| MessageKind::Delete { target }),
    ]
}

fn body() -> impl Strategy<Value = MessageBody> {
    (option::of(seq()), kind()).prop_map(|(reply_to, kind)| MessageBody { reply_to, kind })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn what_one_client_says_is_what_the_other_reads(body in body()) {
        let bytes = body.to_bytes().unwrap();
        prop_assert_eq!(Content::parse(&bytes), Content::Typed(body));
    }

    #[test]
    fn whatever_somebody_sends_is_read_as_something_that_can_be_said_again(
        bytes in vec(any::<u8>(), 0..400),
        is_typed in any::<bool>(),
    ) {
        let marker = if is_typed { &[MARKER, VERSION][..] } else { &[] };
        let bytes = Bytes::from([marker, &bytes[..]].concat());
        match Content::parse(&bytes) {
            Content::Typed(body) => {
                prop_assert_eq!(Content::parse(&body.to_bytes().unwrap()), Content::Typed(body));
            }
            Content::Plain(plain) => prop_assert_eq!(plain, bytes),
            Content::NotUnderstood => prop_assert_eq!(bytes[0], MARKER),
        }
    }

    #[test]
    fn a_damaged_body_never_panics(
        body in body(),
        damage in vec((any::<Index>(), any::<u8>()), 1..5),
        cut in any::<Index>(),
    ) {
        let mut bytes = body.to_bytes().unwrap().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Content::Typed(body) = Content::parse(&bytes.into()) {
            prop_assert!(body.to_bytes().is_ok());
        }
    }
}

#[test]
fn text_without_a_type_stays_what_it_is() {
    for plain in ["", "hello", "\u{1}", "1", "grüße"] {
        let body = Bytes::from(plain);
        assert_eq!(Content::parse(&body), Content::Plain(body.clone()));
    }
}

#[test]
fn what_a_later_version_sends_is_not_understood_and_not_lost() {
    let empty = [MARKER, VERSION];
    let kind_of_tomorrow = [MARKER, VERSION, 0x7a, 0x02, 0x08, 0x01];
    for body in [&[MARKER][..], &[MARKER, 2, 0x12, 0x00], &empty, &kind_of_tomorrow, &[MARKER, VERSION, 0xff]] {
        assert_eq!(Content::parse(&Bytes::copy_from_slice(body)), Content::NotUnderstood, "{body:?}");
    }
    let with_a_new_field = [MARKER, VERSION, 0x12, 0x04, 0x0a, 0x02, b'h', b'i', 0x7a, 0x00];
    let body = Bytes::copy_from_slice(&with_a_new_field);
    assert_eq!(Content::parse(&body), Content::Typed(MessageBody::text("hi")));
}

#[test]
fn what_nobody_would_understand_is_not_sent() {
    let media = Media { reference: vec![0; MEDIA_REFERENCE_BYTES_MAX].into(), ..Media::default() };
    let too_long = |bytes: usize| "x".repeat(bytes + 1);
    let kinds = [
        MessageKind::Media(Media::default()),
        MessageKind::Media(Media { media_type: too_long(MEDIA_TYPE_BYTES_MAX), ..media.clone() }),
        MessageKind::Media(Media { name: too_long(MEDIA_NAME_BYTES_MAX), ..media.clone() }),
        MessageKind::Media(Media { caption: too_long(MEDIA_CAPTION_BYTES_MAX), ..media.clone() }),
        MessageKind::Media(Media { thumbnail: too_long(THUMBNAIL_BYTES_MAX).into(), ..media.clone() }),
        MessageKind::Media(Media { key: too_long(MEDIA_KEY_BYTES_MAX).into(), ..media.clone() }),
        MessageKind::Note(Note { kind: NoteKind::Text, text: too_long(NOTE_BYTES_MAX) }),
        MessageKind::Reaction { target: MessageSeq::new(1), emoji: too_long(EMOJI_BYTES_MAX) },
        MessageKind::Reaction { target: MessageSeq::ZERO, emoji: String::new() },
        MessageKind::Edit { target: MessageSeq::ZERO, text: String::new() },
        MessageKind::Delete { target: MessageSeq::ZERO },
    ];
    for kind in kinds {
        let body = MessageBody::from(kind);
        assert!(matches!(body.to_bytes(), Err(Error::InvalidOption(_))), "{body:?}");
    }
    assert!(MessageBody::from(MessageKind::Media(media)).to_bytes().is_ok());
    let longest = MessageBody::text("x".repeat(BODY_BYTES_MAX));
    assert!(matches!(longest.to_bytes(), Err(Error::BodyTooLarge { .. })));
}

#[test]
fn bodies_and_bounds_are_those_of_the_protocol() {
    let seq = MessageSeq::new;
    let thumbs_up = MessageKind::Reaction { target: seq(300), emoji: "👍".to_owned() };
    for (name, body) in
        [("message.reply", MessageBody::text("hi").in_reply_to(seq(3))), ("message.reaction", thumbs_up.into())]
    {
        let hex = data_encoding::HEXLOWER.encode(&body.to_bytes().unwrap());
        assert!(PROTOCOL.contains(&format!("\n{name} = {hex}\n")), "{name} = {hex}");
    }
    for (what, bound) in [
        ("Media.reference", format!("1 to {MEDIA_REFERENCE_BYTES_MAX} bytes")),
        ("Media.media_type", format!("{MEDIA_TYPE_BYTES_MAX} bytes")),
        ("Media.name", format!("{MEDIA_NAME_BYTES_MAX} bytes")),
        ("Media.caption", format!("{MEDIA_CAPTION_BYTES_MAX} bytes")),
        ("Media.thumbnail", format!("{THUMBNAIL_BYTES_MAX} bytes")),
        ("Media.key", format!("{MEDIA_KEY_BYTES_MAX} bytes")),
        ("System.text", format!("{NOTE_BYTES_MAX} bytes")),
        ("Reaction.emoji", format!("{EMOJI_BYTES_MAX} bytes")),
    ] {
        assert!(PROTOCOL.contains(&format!("\n| `{what}` | {bound} |\n")), "{what}: {bound}");
    }
}
