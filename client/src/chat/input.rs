//! (D) Lines of standard input, read by a thread of their own: a read of a terminal cannot be taken back.
//!
//! The thread ends with the input, or with the process. Lines and their number are bounded; what is too long is read to
//! its end and not kept.

use std::io::BufRead;

use tokio::sync::mpsc;

use super::view::Typed;
use crate::limits::{CHAT_LINE_BYTES_MAX, CHAT_LINES_MAX};

/// Begins to read.
///
/// # Errors
/// Where no thread can be made.
pub(super) fn lines() -> std::io::Result<mpsc::Receiver<Typed>> {
    let (sender, lines) = mpsc::channel(CHAT_LINES_MAX);
    std::thread::Builder::new().name("chat-input".to_owned()).spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let typed = read_line(&mut input);
            let ends = typed == Typed::End;
            if sender.blocking_send(typed).is_err() || ends {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// The next line without its end. An input that cannot be read has ended.
fn read_line(input: &mut impl BufRead) -> Typed {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let Ok(buffer) = input.fill_buf() else {
            return Typed::End;
        };
        if buffer.is_empty() {
            // A last line may lack its end.
            return match (line.is_empty(), too_long) {
                (_, true) => Typed::TooLong,
                (true, false) => Typed::End,
                (false, false) => text(&line),
            };
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        too_long |= line.len() + part.len() > CHAT_LINE_BYTES_MAX;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return if too_long { Typed::TooLong } else { text(&line) };
        }
    }
}

fn text(line: &[u8]) -> Typed {
    Typed::Line(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_line_that_is_too_long_costs_neither_memory_nor_the_lines_around_it() {
        let mut text = b"one\n\n".to_vec();
        text.extend(vec![b'x'; CHAT_LINE_BYTES_MAX]);
        text.push(b'\n');
        text.extend(vec![b'x'; 3 * CHAT_LINE_BYTES_MAX]);
        text.extend(b"\nlast\xff");
        for capacity in [7, 8_192, 1 << 20] {
            let mut input = BufReader::with_capacity(capacity, &text[..]);
            let line = |text: &str| Typed::Line(text.to_owned());
            assert_eq!(read_line(&mut input), line("one"));
            assert_eq!(read_line(&mut input), line(""));
            assert_eq!(read_line(&mut input), line(&"x".repeat(CHAT_LINE_BYTES_MAX)));
            assert_eq!(read_line(&mut input), Typed::TooLong);
            assert_eq!(read_line(&mut input), line("last\u{fffd}"));
            assert_eq!(read_line(&mut input), Typed::End);
        }
    }

    #[test]
    fn an_input_that_ends_within_a_line_that_is_too_long_says_so() {
        let text = vec![b'x'; CHAT_LINE_BYTES_MAX + 1];
        let mut input = &text[..];
        assert_eq!(read_line(&mut input), Typed::TooLong);
        assert_eq!(read_line(&mut input), Typed::End);
    }
}
