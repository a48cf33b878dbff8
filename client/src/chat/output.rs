//! (D) Lines of standard output, in colour where a person reads them and wants it.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
};

use super::view::{Line, Tone};

/// Collects lines and writes them together.
pub(super) struct Screen {
    colour: bool,
    text: String,
}

impl Screen {
    /// Standard output as it is.
    pub(super) fn new(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        Self { colour: std::io::stdout().is_terminal() && wants_colour(environment), text: String::new() }
    }

    /// Adds a line.
    pub(super) fn push(&mut self, line: &Line) {
        let (before, after) = match line.tone {
            Tone::Message => ("", ""),
            Tone::Notice => ("\x1b[2m", "\x1b[0m"),
            Tone::Trouble => ("\x1b[31m", "\x1b[0m"),
            Tone::Tick => ("\x1b[32m", "\x1b[0m"),
        };
        if self.colour && !before.is_empty() {
            self.text.extend([before, &line.text, after, "\n"]);
        } else {
            self.text.extend([&line.text, "\n"]);
        }
    }

    /// Writes what was added.
    ///
    /// # Errors
    /// Where nobody reads it any more.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(self.text.as_bytes())?;
        self.text.clear();
        out.flush()
    }
}

/// See <https://no-color.org>.
fn wants_colour(environment: impl Fn(&str) -> Option<OsString>) -> bool {
    environment("NO_COLOR").is_none_or(|value| value.is_empty())
        && environment("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(colour: bool) -> String {
        let mut screen = Screen { colour, text: String::new() };
        for (tone, text) in [(Tone::Message, "14:03 bob: hi"), (Tone::Trouble, "! no")] {
            screen.push(&Line { tone, text: text.to_owned() });
        }
        screen.text
    }

    #[test]
    fn a_script_reads_no_escape_codes() {
        assert_eq!(shown(false), "14:03 bob: hi\n! no\n");
        assert_eq!(shown(true), "14:03 bob: hi\n\x1b[31m! no\x1b[0m\n");
        let with = |name: &'static str, value: &'static str| {
            wants_colour(move |asked: &str| (asked == name).then(|| value.into()))
        };
        assert!(!with("NO_COLOR", "1") && !with("TERM", "dumb"));
        assert!(with("NO_COLOR", "") && with("TERM", "xterm"));
    }
}
