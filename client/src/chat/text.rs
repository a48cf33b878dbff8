//! Text that is safe to print, and times.

use columba_wire::UserId;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What somebody wrote, on one line: nothing in it moves the cursor, changes colours or turns the direction of text.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(printable_char).collect()
}

fn printable_char(c: char) -> char {
    match c {
        '\t' => ' ',
        // Control pictures: what was meant can still be seen.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{2028}' | '\u{2029}' => '\u{2424}',
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

/// A user without a name: the first 8 hex digits of the id.
pub(super) fn short_id(user: UserId) -> String {
    let mut id = user.to_string();
    id.truncate(8);
    id
}

/// The units of spans: seconds of each, the largest first.
const UNITS: &[(u32, char)] = &[(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];

/// A span of time in its largest whole unit.
pub(super) fn span(seconds: u32) -> String {
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length));
    let (length, name) = unit.copied().unwrap_or((1, 's'));
    format!("{}{name}", seconds / length)
}

/// The seconds of what [`span`] gives; `None` where it is no span, or has more than 32 bits.
pub(super) fn parse_span(text: &str) -> Option<u32> {
    let (length, number) = UNITS.iter().find_map(|(length, name)| Some((length, text.strip_suffix(*name)?)))?;
    number.parse::<u32>().ok()?.checked_mul(*length)
}

/// A time of the day, UTC; with the date where that is another day than `now_ms`.
pub(super) fn clock(time_ms: u64, now_ms: u64) -> String {
    let minutes = time_ms % DAY_MS / 60_000;
    let (hour, minute) = (minutes / 60, minutes % 60);
    if time_ms / DAY_MS == now_ms / DAY_MS {
        return format!("{hour:02}:{minute:02}");
    }
    let (year, month, day) = date(time_ms / DAY_MS);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// Year, month and day of a day counted from 1970, Gregorian. Years begin in March here, so leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// `1 message`, `2 messages`.
pub(super) fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_take_over_the_terminal() {
        assert_eq!(printable(b"\x1b[2J\x1b]0;title\x07"), "␛[2J␛]0;title␇");
        assert_eq!(printable("one\r\ntwo\tthree\u{7f}".as_bytes()), "one␍␊two three␡");
        assert_eq!(printable("\u{9b}31m \u{202e}gpj.exe \u{2066}x\u{feff}".as_bytes()), "�31m �gpj.exe �x�");
        assert_eq!(printable("a\u{2028}b".as_bytes()), "a␤b");
        assert_eq!(printable(b"\xff\xfe ok"), "�� ok");
        assert_eq!(printable("grüße 🕊️ 你好 שלום".as_bytes()), "grüße 🕊️ 你好 שלום");
        let hostile: String = (0..=0x20_ffff).filter_map(char::from_u32).collect();
        assert!(printable(hostile.as_bytes()).chars().all(|c| !c.is_control()));
    }

    #[test]
    fn spans_have_their_largest_whole_unit() {
        let spans = [(1, "1s"), (90, "90s"), (120, "2m"), (3_600, "1h"), (90_000, "25h"), (604_800, "7d")];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
            assert_eq!(parse_span(text), Some(seconds));
        }
    }

    #[test]
    fn times_are_of_today_or_have_a_date() {
        let now = 1_709_251_199_000; // 2024-02-29 23:59:59
        assert_eq!(clock(now, now), "23:59");
        assert_eq!(clock(now + 1_000, now), "2024-03-01 00:00");
        assert_eq!(clock(0, now), "1970-01-01 00:00");
        assert_eq!(clock(1_700_000_000_000, now), "2023-11-14 22:13");
        assert_eq!(clock(946_684_800_000, now), "2000-01-01 00:00");
        assert!(clock(u64::MAX, now).len() > 16, "any number of a server has a text");
    }
}
