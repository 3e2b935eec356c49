//! Whether a number written out has a place for each of its digits in a decimal column.

/// Whether a decimal with this many places holds every digit of a number such as `-12.50` or `1e3`. A text that is no
/// number is not looked at: who reads it says so.
pub fn keeps_digits(text: &str, scale: i8) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit);
    if digits().all(|digit| digit == b'0') {
        return true;
    }
    let zeros = digits().rev().take_while(|digit| *digit == b'0').count();
    // The power of ten of the last digit that is not zero.
    let last = |exponent: i64| Some(exponent + i64::try_from(zeros).ok()? - i64::try_from(fraction.len()).ok()?);
    let last = exponent.parse::<i32>().ok().and_then(|exponent| last(exponent.into()));
    last.is_some_and(|last| last >= -i64::from(scale))
}

/// How many places a column of this type has behind the point; `None` for one that is no decimal.
pub fn scale(data_type: &arrow::datatypes::DataType) -> Option<i8> {
    use arrow::datatypes::DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    match data_type {
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) | Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_without_a_place_is_found_however_the_number_is_written() {
        for (text, scale, is_kept) in [
            ("12.99", 2, true),
            ("12.999", 2, false),
            ("-12.990", 2, true),
            ("+0.005", 2, false),
            ("0.000", 2, true),
            ("0e-400", 2, true),
            ("1299.9e-1", 2, true),
            ("1299.9e-2", 2, false),
            ("1e-3", 3, true),
            ("1E3", 0, true),
            ("12.999e1", 2, true),
            ("150", -2, false),
            ("1500", -2, true),
            ("1e99999999999", 2, false),
        ] {
            assert_eq!(keeps_digits(text, scale), is_kept, "{text} with {scale} places");
        }
    }
}
