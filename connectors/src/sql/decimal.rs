//! Decimals as text.

use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::datatypes::Decimal128Type;

use crate::codec::decimal::keeps_digits;

/// A decimal whose every digit has its place; `None` for one with more, and for what is none.
pub(crate) fn exact(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let fits = plain && keeps_digits(digits, scale);
    if fits { parse_decimal::<Decimal128Type>(text, precision, scale).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(exact("-1.50", 10, 2), Some(-150));
        assert_eq!(exact("12.345", 10, 2), None);
        assert_eq!(exact("123456789.00", 10, 2), None);
        for none in ["", "-", "1e5", "NaN", "inf", "0x1"] {
            assert_eq!(exact(none, 10, 2), None, "{none}");
        }
    }
}
