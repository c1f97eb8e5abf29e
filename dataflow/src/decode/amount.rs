//! Dollars from the text of a number: exact, never through a float.

use super::scan::number_end;
use tidemark_model::Cents;

/// The whole cents of an amount, rounded half-up. `None` unless the text is a JSON number in full, and one from 0 to
/// [`Cents::MAX_AMOUNT`], judged before rounding.
pub(super) fn cents(text: &str) -> Option<Cents> {
    let text = text.as_bytes();
    if number_end(text, 0).ok()? != text.len() {
        return None;
    }
    let number = Number::of(text);
    let Some(scale) = number.scale() else { return Some(Cents(0)) };
    if number.negative { None } else { number.cents(scale) }
}

/// A number's parts, as they are written: `whole.fraction × 10^exponent`.
struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Saturated far beyond the length of any text, so it cannot overflow when digits are counted into it.
    exponent: i64,
}

impl<'a> Number<'a> {
    /// Takes the parts of a text that is known to be a number.
    fn of(text: &'a [u8]) -> Self {
        let negative = text.first() == Some(&b'-');
        let unsigned = &text[usize::from(negative)..];
        let (mantissa, exponent) = split(unsigned, |byte| matches!(byte, b'e' | b'E'));
        let (whole, fraction) = split(mantissa, |byte| byte == b'.');
        Number { negative, whole, fraction, exponent: saturated(exponent) }
    }

    /// The digits, without the point.
    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).map(|digit| digit - b'0')
    }

    /// The s for which the value lies in [10^(s−1), 10^s); `None` for zero.
    fn scale(&self) -> Option<i64> {
        let zeros = self.digits().position(|digit| digit != 0)?;
        Some(length(self.whole) - i64::try_from(zeros).ok()? + self.exponent)
    }

    /// Takes the digits down to the cent, then looks at the rest.
    fn cents(&self, scale: i64) -> Option<Cents> {
        const LARGEST_SCALE: i64 = 10; // that of 1,000,000,000
        if scale > LARGEST_SCALE {
            return None;
        }
        // The first digit stands for 10^(scale−1) dollars, so `scale + 2` digits make cents; below −2 it is under 0.1 cents.
        let Ok(places) = usize::try_from(scale + 2) else { return Some(Cents(0)) };
        let mut digits = self.digits().skip_while(|&digit| digit == 0);
        let whole = (0..places).fold(0, |cents, _| cents * 10 + i64::from(digits.next().unwrap_or(0)));
        let next = digits.next().unwrap_or(0);
        let more = next != 0 || digits.any(|digit| digit != 0);
        if whole > Cents::MAX_AMOUNT.0 || (whole == Cents::MAX_AMOUNT.0 && more) {
            return None;
        }
        Some(Cents(whole + i64::from(next >= 5)))
    }
}

/// Before and after the first byte that is a separator; all of it and nothing if there is none.
fn split(text: &[u8], is_separator: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| is_separator(byte)) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// The value of `±digits`, held where a text's own length can no longer matter.
fn saturated(exponent: &[u8]) -> i64 {
    const FAR: i64 = i64::MAX / 100;
    let magnitude = exponent
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0, |magnitude: i64, digit| (magnitude * 10 + i64::from(digit - b'0')).min(FAR));
    if exponent.first() == Some(&b'-') { -magnitude } else { magnitude }
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).expect("no slice is longer than isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::cents;
    use tidemark_model::Cents;

    fn accepts(text: &str, expected: i64) {
        assert_eq!(cents(text), Some(Cents(expected)), "{text}");
    }

    fn refuses(text: &str) {
        assert_eq!(cents(text), None, "{text}");
    }

    #[test]
    fn plain_amounts() {
        for (text, expected) in
            [("0", 0), ("12.34", 1234), ("12.3", 1230), ("12", 1200), ("0.01", 1), ("1000000000", 100_000_000_000)]
        {
            accepts(text, expected);
        }
    }

    #[test]
    fn rounds_half_up_from_the_text() {
        for (text, expected) in [("25.005", 2501), ("25.00499999999999999999", 2500), ("0.005", 1), ("0.0049", 0), ("0.995", 100)]
        {
            accepts(text, expected);
        }
        for (text, expected) in
            [("0.001", 0), ("0.009", 1), ("0.0009", 0), ("999999999.995", 100_000_000_000), ("5e-3", 1), ("49e-4", 0)]
        {
            accepts(text, expected);
        }
    }

    #[test]
    fn bounds_are_judged_before_rounding() {
        for text in ["1000000000.00", "1e9", "1E+9", "10e8", "0.1e10", "1000000000.000000e0", "100000000000000e-5"] {
            accepts(text, 100_000_000_000);
        }
        for text in [
            "1000000000.001",
            "1000000000.0000000000001",
            "1000000000.01",
            "1000000001",
            "1e10",
            "99999999999",
            "-0.001",
            "-1",
            "-1e-9",
        ] {
            refuses(text);
        }
    }

    #[test]
    fn zeros_of_every_form() {
        for text in ["-0", "-0.00", "0e5", "-0e99999999999999999999999", "0.0E-7", "0e+99999999999999999999999"] {
            accepts(text, 0);
        }
    }

    #[test]
    fn exponents_of_any_size() {
        accepts("1e-99999999999999999999999999999999", 0);
        refuses("1e99999999999999999999999999999999");
        refuses("-1e-99999999999999999999999999999999");
        accepts("1e00000000000000000000000000000000000001", 1000);
        accepts(&format!("0.{}1e100001", "0".repeat(100_000)), 100);
        accepts(&format!("1{}e-100000", "0".repeat(100_000)), 100);
        accepts(&format!("5e-{}3", "0".repeat(100_000)), 1);
        refuses(&format!("1e{}", "9".repeat(100_000)));
        accepts(&format!("1e-{}", "9".repeat(100_000)), 0);
        refuses(&format!("1000000000.{}1", "0".repeat(100_000)));
    }

    #[test]
    fn only_json_numbers() {
        for text in [
            "", " 1", "1 ", "+1", "01", ".5", "5.", "1e", "1e+", "0x1", "1_000", "1,000", "NaN", "Infinity", "-", "--1", "1.2.3",
            "$5", "١",
        ] {
            refuses(text);
        }
    }

    #[test]
    fn agrees_with_integer_arithmetic() {
        // Thousandths of a dollar, written with different exponents, against i128 arithmetic.
        for thousandths in (0..40_000_i128).chain(999_999_999_900..1_000_000_000_100) {
            let expected = (thousandths <= 1_000_000_000_000).then(|| Cents(i64::try_from((thousandths + 5) / 10).unwrap()));
            let shifted = format!("{}.{:06}e3", thousandths / 1_000_000, thousandths % 1_000_000);
            for text in [format!("{}.{:03}", thousandths / 1000, thousandths % 1000), format!("{thousandths}e-3"), shifted] {
                assert_eq!(cents(&text), expected, "{text}");
            }
        }
    }
}
