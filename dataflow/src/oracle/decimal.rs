//! Exact amounts by moving the point in a string of digits: no float, no power of ten, no exponent that is ever counted out.

use tidemark_model::Cents;

/// A text of JSON's number grammar, cut at its seams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    negative: bool,
    /// Digits before the point.
    whole: &'a str,
    /// Digits after the point; empty without a point.
    fraction: &'a str,
    exponent_negative: bool,
    /// Digits of the exponent; empty without one.
    exponent: &'a str,
}

/// Stands for every larger exponent: no payload has the digits to bring a point back from so far.
const VAST: i64 = 100_000_000_000_000_000;

impl<'a> Number<'a> {
    /// The parts of `text`, if all of it is one number of JSON's grammar.
    pub(super) fn parse(text: &'a str) -> Option<Number<'a>> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Some(power)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let (exponent_negative, exponent) = match power {
            Some(power) if power.starts_with('-') => (true, Some(&power[1..])),
            Some(power) => (false, Some(power.strip_prefix('+').unwrap_or(power))),
            None => (false, None),
        };
        let is_number = are_digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(are_digits)
            && exponent.is_none_or(are_digits);
        let fraction = fraction.unwrap_or_default();
        let exponent = exponent.unwrap_or_default();
        is_number.then_some(Number { negative, whole, fraction, exponent_negative, exponent })
    }

    /// The amount rounded half-up to cents, if before rounding it is at least 0 and at most 1,000,000,000.00.
    pub(super) fn to_cents(self) -> Option<Cents> {
        let digits = format!("{}{}", self.whole, self.fraction);
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return Some(Cents(0)); // zero of whichever sign and exponent
        }
        if self.negative {
            return None;
        }
        // The value is 0.SIGNIFICANT × 10^magnitude, and the first significant digit is not 0.
        let leading_zeros = length(&digits) - length(significant);
        let magnitude = length(self.whole) - leading_zeros + self.power();
        match magnitude {
            11.. => None,           // at least 10^10
            ..-2 => Some(Cents(0)), // below 0.001
            -2..=10 => round(&self.plain(significant, magnitude)),
        }
    }

    fn power(self) -> i64 {
        let digits = self.exponent.trim_start_matches('0');
        let absolute = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(VAST).min(VAST) };
        if self.exponent_negative { -absolute } else { absolute }
    }

    /// The digits before and after the point, written out without an exponent; at least three after it.
    fn plain(self, significant: &str, magnitude: i64) -> (String, String) {
        let places = usize::try_from(magnitude.unsigned_abs()).expect("a magnitude from -2 to 10");
        if magnitude <= 0 {
            return ("0".to_owned(), format!("{}{significant}000", "0".repeat(places)));
        }
        let padded = format!("{significant:0<places$}000");
        let (whole, fraction) = padded.split_at(places);
        (whole.to_owned(), fraction.to_owned())
    }
}

fn round((whole, fraction): &(String, String)) -> Option<Cents> {
    let dollars: i64 = whole.parse().expect("one to ten digits");
    let has_fraction = fraction.contains(|digit| digit != '0');
    if dollars > 1_000_000_000 || (dollars == 1_000_000_000 && has_fraction) {
        return None;
    }
    let cents: i64 = fraction[..2].parse().expect("two digits");
    let half_or_more = fraction.as_bytes()[2] >= b'5';
    Some(Cents(dollars * 100 + cents + i64::from(half_or_more)))
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).expect("a text in memory is shorter than 2^63 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cents(text: &str) -> Option<i64> {
        Number::parse(text).expect("a number").to_cents().map(|cents| cents.0)
    }

    #[test]
    fn the_grammar_is_that_of_json() {
        for text in
            ["0", "-0", "10", "0.0", "1.50", "1e5", "1E+5", "1e-05", "-1.5e10", "0e0", "1e00", "123456789012345678901234567890"]
        {
            assert!(Number::parse(text).is_some(), "{text}");
        }
        for text in [
            "", "-", "+1", "01", "00", "-01", ".5", "5.", "-.5", "1e", "1e+", "1e-", "1.e5", "1.5.5", "1e5e5", "1e5.0", " 1",
            "1 ", "1_000", "1,000", "NaN", "Infinity", "0x10", "1e+-5", "--1", "٣", "１", "$5", "1\n",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn amounts_are_rounded_half_up_from_their_text() {
        for (text, expected) in [
            ("0", 0),
            ("-0", 0),
            ("-0.000", 0),
            ("-0e5", 0),
            ("25", 2_500),
            ("25.0", 2_500),
            ("25.00", 2_500),
            ("25.005", 2_501),
            ("25.00499999999999999999", 2_500),
            ("0.005", 1),
            ("0.0049999999999999999999999", 0),
            ("0.0050", 1),
            ("0.001", 0),
            ("0.009", 1),
            ("0.015", 2),
            ("0.025", 3),
            ("1.005", 101),
            ("2.675", 268),
            ("0.994", 99),
            ("0.995", 100),
            ("9.999", 1_000),
            ("0.1", 10),
            ("0.01", 1),
            ("19.99", 1_999),
            ("1e2", 10_000),
            ("1E-2", 1),
            ("5e-3", 1),
            ("5E-4", 0),
            ("4.9e-3", 0),
            ("1e-400000000", 0),
            ("123456e-5", 123),
            ("1.23456e2", 12_346),
            ("0.00000000001e11", 100),
            ("1e+0", 100),
            ("1e007", 1_000_000_000),
        ] {
            assert_eq!(cents(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn bounds_are_judged_before_rounding() {
        for text in ["1000000000", "1000000000.00", "1000000000.000000", "1e9", "1.0E+9", "0.1e10", "10000000000e-1"] {
            assert_eq!(cents(text), Some(Cents::MAX_AMOUNT.0), "{text}");
        }
        assert_eq!(cents("999999999.995"), Some(Cents::MAX_AMOUNT.0));
        assert_eq!(cents("999999999.9949"), Some(Cents::MAX_AMOUNT.0 - 1));
        for text in [
            "1000000000.001",
            "1000000000.00000000000000000000001",
            "1000000001",
            "1e10",
            "9999999999",
            "-0.001",
            "-1",
            "-1e-400000000",
            "1e400000000",
            "1e99999999999999999999999999",
        ] {
            assert_eq!(cents(text), None, "{text}");
        }
    }

    #[test]
    fn no_exponent_is_too_large() {
        assert_eq!(cents("0e999999999999999999999"), Some(0));
        assert_eq!(cents("0e-999999999999999999999"), Some(0));
        assert_eq!(cents("1e-999999999999999999999"), Some(0));
        assert_eq!(cents("1e000000000000000000000000000002"), Some(10_000));
        let zeros = "0".repeat(100_000);
        assert_eq!(cents(&format!("0.{zeros}7e100001")), Some(700));
        assert_eq!(cents(&format!("7{zeros}e-100000")), Some(700));
        assert_eq!(cents(&format!("7{zeros}.5e-100003")), Some(1));
    }
}
