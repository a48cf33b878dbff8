//! QR codes in a terminal: two rows of modules to a line, by half blocks.

use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code; scanners want four.
const QUIET: i32 = 4;

/// The lines of a QR code. Light is what is printed, as it is on a terminal with light text on a dark ground; scanners
/// read it the other way round as well. Nothing where the text is too long for one.
pub(super) fn lines(text: &str) -> Vec<String> {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else {
        return Vec::new();
    };
    // Outside of the code everything is light.
    let is_light = |x, y| !code.get_module(x, y);
    let (begin, end) = (-QUIET, code.size() + QUIET);
    let line = |y: i32| {
        let module = |x| match (is_light(x, y), y + 1 < end && is_light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        (begin..end).map(module).collect()
    };
    (begin..end).step_by(2).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fits_into_a_terminal_and_its_modules_are_those_of_the_code() {
        let text = format!("columba:link/7KQ29XWC/{}", "0".repeat(64));
        let lines = lines(&text);
        let code = QrCode::encode_text(&text, QrCodeEcc::Low).unwrap();
        let width = usize::try_from(code.size() + 2 * QUIET).unwrap();
        assert!(width <= 60 && lines.len() == width.div_ceil(2), "{width}");
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert!(lines[0].chars().all(|c| c == '█'), "the edge is light");
        let dark = |lines: &[String]| -> usize {
            let dark = |c| match c {
                ' ' => 2,
                '▀' | '▄' => 1,
                _ => 0,
            };
            lines.iter().flat_map(|line| line.chars()).map(dark).sum()
        };
        let modules = (0..code.size()).flat_map(|y| (0..code.size()).map(move |x| (x, y)));
        let expected = modules.filter(|(x, y)| code.get_module(*x, *y)).count();
        // The last line has one row alone; what is below it is counted as dark.
        assert_eq!(dark(&lines), expected + width * (width % 2));
    }

    #[test]
    fn what_is_too_long_has_no_code() {
        assert!(lines(&"x".repeat(5000)).is_empty());
    }
}
