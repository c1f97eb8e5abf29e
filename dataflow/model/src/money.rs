//! Exact amounts of money.

use serde::{Deserialize, Serialize};
use std::fmt;

/// US dollars in whole cents. [`fmt::Display`] writes the text of `numeric(20,2)`: `25.00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cents(pub i64);

impl Cents {
    /// The largest single amount that an event may carry: 1,000,000,000.00.
    pub const MAX_AMOUNT: Cents = Cents(100_000_000_000);
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::Cents;

    #[test]
    fn prints_as_numeric_with_two_places() {
        let texts = [(0, "0.00"), (5, "0.05"), (2_500, "25.00"), (-1, "-0.01"), (i64::MIN, "-92233720368547758.08")];
        for (cents, text) in texts {
            assert_eq!(Cents(cents).to_string(), text);
        }
    }
}
