//! A value of a metric: a count, milliseconds, or dollars with the exact text of `numeric(20,2)`.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use tidemark_model::metrics::Unit;
use tidemark_model::{Cents, Metric};

/// An exact amount of dollars: digits, a point, two digits. A sum may be larger than [`Cents`] can hold, so it is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money(String);

impl Money {
    /// `None` if this is not the text of a `numeric` of scale 2, as `NaN` is not.
    pub fn from_text(text: String) -> Option<Money> {
        let (whole, cents) = text.strip_prefix('-').unwrap_or(&text).split_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        let fits = !whole.is_empty() && cents.len() == 2 && !leading_zero && digits(whole) && digits(cents);
        fits.then_some(Money(text))
    }

    /// The amount in cents. One that does not fit 64 bits becomes the nearest that does.
    pub fn cents(&self) -> i64 {
        let negative = self.0.starts_with('-');
        self.0.replace('.', "").parse().unwrap_or(if negative { i64::MIN } else { i64::MAX })
    }

    /// The amount in hundredths of a dollar, exact: 20 digits fit.
    pub fn hundredths(&self) -> i128 {
        self.0.replace('.', "").parse().unwrap_or(0)
    }

    /// The inverse of [`Money::hundredths`].
    pub fn from_hundredths(hundredths: i128) -> Money {
        let (sign, amount) = (if hundredths < 0 { "-" } else { "" }, hundredths.unsigned_abs());
        Money(format!("{sign}{}.{:02}", amount / 100, amount % 100))
    }
}

impl From<Cents> for Money {
    fn from(cents: Cents) -> Money {
        Money(cents.to_string())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON number with every digit: never through a float.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.clone()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Amount {
    /// A count, or milliseconds.
    Count(i64),
    /// Dollars.
    Money(Money),
}

impl Amount {
    /// A value of the metric's unit: a count, milliseconds, or cents. A count that does not fit 64 bits becomes the largest that does.
    pub fn of(metric: Metric, units: i128) -> Amount {
        match metric.declared().unit {
            Unit::Count | Unit::Milliseconds => Amount::Count(units.try_into().unwrap_or(i64::MAX)),
            Unit::Usd => Amount::Money(Money::from_hundredths(units)),
        }
    }

    /// Whether it is a value of this metric's unit.
    pub fn is_of(&self, metric: Metric) -> bool {
        matches!(self, Amount::Money(_)) == (metric.declared().unit == Unit::Usd)
    }

    /// The inverse of [`Amount::of`].
    pub fn units(&self) -> i128 {
        match self {
            Amount::Count(count) => (*count).into(),
            Amount::Money(money) => money.hundredths(),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => count.fmt(f),
            Amount::Money(money) => money.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_every_digit() {
        for text in ["0.10", "25.00", "92233720368547758.07", "999999999999999999.99", "-0.01"] {
            let money = Money::from_text(text.to_owned()).unwrap();
            assert_eq!(serde_json::to_string(&money).unwrap(), text);
        }
        assert_eq!(Money::from(Cents(i64::MAX)).cents(), i64::MAX);
        assert_eq!(Money::from_text("999999999999999999.99".to_owned()).unwrap().cents(), i64::MAX);
        for text in ["NaN", "1", "1.5", "1e3.00", "+1.00", "01.00", ".50", "1.000", "", "--1.00"] {
            assert_eq!(Money::from_text(text.to_owned()), None, "{text}");
        }
    }
}
