//! What messages say, in words on one line.

use columba_wire::MessageSeq;

use super::text::printable;
use crate::types::{CallEvent, CallOutcome, Content, Media, MessageBody, MessageKind, Note, NoteKind};

/// Characters of a message that are quoted where it is answered.
const QUOTED_CHARS: usize = 32;

/// A message with its sender: `bob: hello`, `bob changes message 3 to: hello`.
pub(super) fn join(name: &str, content: &Content, words: &str) -> String {
    let colon = if content.target().is_some() { "" } else { ":" };
    format!("{name}{colon} {words}")
}

/// What a message says.
pub(super) fn words(content: &Content) -> String {
    let body = match content {
        Content::Plain(text) => return printable(text),
        Content::NotUnderstood => return "<not understood by this version>".to_owned(),
        Content::Typed(body) => body,
    };
    match &body.kind {
        MessageKind::Text(text) => printable(text.as_bytes()),
        MessageKind::Media(media) => media_words(media),
        MessageKind::CallEvent(call) => call_words(*call),
        MessageKind::Note(note) => note_words(note),
        MessageKind::Reaction { target, emoji } if emoji.is_empty() => {
            format!("takes back the reaction to message {target}")
        }
        MessageKind::Reaction { target, emoji } => {
            format!("reacts to message {target} with {}", printable(emoji.as_bytes()))
        }
        MessageKind::Edit { target, text } => format!("changes message {target} to: {}", printable(text.as_bytes())),
        MessageKind::Delete { target } => format!("deletes message {target}"),
    }
}

/// The message that is answered, if one is.
pub(super) fn answered(content: &Content) -> Option<MessageSeq> {
    match content {
        Content::Typed(MessageBody { reply_to, kind }) if kind.target().is_none() => *reply_to,
        Content::Typed(_) | Content::Plain(_) | Content::NotUnderstood => None,
    }
}

/// The begin of what is answered, in quotes.
pub(super) fn quotation(words: &str) -> String {
    let begin: String = words.chars().take(QUOTED_CHARS).collect();
    let more = if begin.len() < words.len() { "..." } else { "" };
    format!("\"{begin}{more}\"")
}

fn media_words(media: &Media) -> String {
    let [kind, name, caption] = [&media.media_type, &media.name, &media.caption].map(|text| printable(text.as_bytes()));
    let size = format!("{} bytes", media.size);
    let parts: Vec<_> = [kind, name, size].into_iter().filter(|part| !part.is_empty()).collect();
    let caption = if caption.is_empty() { caption } else { format!(" {caption}") };
    format!("<file: {}>{caption}", parts.join(", "))
}

fn call_words(call: CallEvent) -> String {
    let kind = if call.video { "video call" } else { "call" };
    let outcome = match call.outcome {
        CallOutcome::Unknown => "over".to_owned(),
        CallOutcome::Answered => format!("{} min {} s", call.duration_s / 60, call.duration_s % 60),
        CallOutcome::Missed => "missed".to_owned(),
        CallOutcome::Declined => "declined".to_owned(),
        CallOutcome::Busy => "busy".to_owned(),
        CallOutcome::Failed => "failed".to_owned(),
    };
    format!("<{kind}: {outcome}>")
}

fn note_words(note: &Note) -> String {
    let text = printable(note.text.as_bytes());
    match note.kind {
        NoteKind::Text => format!("<note: {text}>"),
        NoteKind::SecurityCodeChanged if text.is_empty() => "<note: the security code has changed>".to_owned(),
        NoteKind::SecurityCodeChanged => format!("<note: the security code has changed: {text}>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::CallId;

    fn phrase(name: &str, content: &Content) -> String {
        join(name, content, &words(content))
    }

    #[test]
    fn every_kind_has_words_and_none_takes_over_the_terminal() {
        let target = MessageSeq::new(3);
        let call = |outcome, video| {
            MessageKind::CallEvent(CallEvent { id: CallId::from_bytes([0; 16]), outcome, duration_s: 65, video })
        };
        let note = |kind, text: &str| MessageKind::Note(Note { kind, text: text.to_owned() });
        let media = Media { name: "cat\n.jpg".to_owned(), size: 12, ..Media::default() };
        let captioned = Media { media_type: "image/jpeg".to_owned(), caption: "\x1b[2J".to_owned(), ..media.clone() };
        for (kind, expected) in [
            (MessageKind::Text("\x1bhi".to_owned()), "bob: ␛hi"),
            (MessageKind::Media(media), "bob: <file: cat␊.jpg, 12 bytes>"),
            (MessageKind::Media(captioned), "bob: <file: image/jpeg, cat␊.jpg, 12 bytes> ␛[2J"),
            (call(CallOutcome::Answered, true), "bob: <video call: 1 min 5 s>"),
            (call(CallOutcome::Missed, false), "bob: <call: missed>"),
            (note(NoteKind::Text, "hm\r"), "bob: <note: hm␍>"),
            (note(NoteKind::SecurityCodeChanged, ""), "bob: <note: the security code has changed>"),
            (MessageKind::Reaction { target, emoji: "👍\x07".to_owned() }, "bob reacts to message 3 with 👍␇"),
            (MessageKind::Reaction { target, emoji: String::new() }, "bob takes back the reaction to message 3"),
            (MessageKind::Edit { target, text: "ho\t".to_owned() }, "bob changes message 3 to: ho "),
            (MessageKind::Delete { target }, "bob deletes message 3"),
        ] {
            assert_eq!(phrase("bob", &Content::Typed(kind.into())), expected);
        }
        assert_eq!(phrase("bob", &Content::NotUnderstood), "bob: <not understood by this version>");
    }

    #[test]
    fn a_long_message_is_quoted_by_its_begin() {
        assert_eq!(quotation("hello"), "\"hello\"");
        assert_eq!(quotation(&"ü".repeat(33)), format!("\"{}...\"", "ü".repeat(32)));
    }
}
