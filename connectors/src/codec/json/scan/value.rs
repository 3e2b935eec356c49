//! Numbers and moments.

use super::text::ends_value;

/// A whole number of up to 18 digits, and where it ends.
#[inline]
pub fn integer(line: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = *line.get(at)? == b'-';
    let begin = at + usize::from(negative);
    let (mut value, mut at) = (0_i64, begin);
    while let Some(digit) = line.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        // Wraps only where the number is too long anyway, as may its negation below.
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        at += 1;
    }
    let length = at - begin;
    let plain = (1..=18).contains(&length) && (line[begin] != b'0' || length == 1) && ends_value(line, at);
    plain.then_some((if negative { value.wrapping_neg() } else { value }, at))
}

/// A number, and where it ends.
#[inline]
pub fn double(line: &[u8], at: usize) -> Option<(f64, usize)> {
    let digit = at + usize::from(*line.get(at)? == b'-');
    // Otherwise `-inf` would be one.
    if !line.get(digit)?.is_ascii_digit() {
        return None;
    }
    let (value, length) = lexical_core::parse_partial::<f64>(&line[at..]).ok()?;
    (value.is_finite() && ends_value(line, at + length)).then_some((value, at + length))
}

/// `2015-07-15T00:00:00.000Z` in units of which a second has `per_second`, from 1970 on, in UTC. The fraction and the Z
/// may be missing, and a space may stand for the T.
#[inline]
pub fn moment(text: &[u8], per_second: i64) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let two = |at: usize| {
        let (tens, ones) = (date[at].wrapping_sub(b'0'), date[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then_some(i64::from(tens) * 10 + i64::from(ones))
    };
    let separated =
        date[4] == b'-' && date[7] == b'-' && matches!(date[10], b'T' | b' ') && date[13] == b':' && date[16] == b':';
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    if !separated || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = rest.strip_suffix(b"Z").unwrap_or(rest);
    let fraction = match rest {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            let mut unit = per_second;
            let mut fraction = 0;
            for digit in digits {
                let digit = i64::from(digit.wrapping_sub(b'0'));
                if digit > 9 {
                    return None;
                }
                // What is finer than the unit is cut off.
                unit /= 10;
                fraction += digit * unit;
            }
            fraction
        }
        _ => return None,
    };
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    seconds.checked_mul(per_second)?.checked_add(fraction)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 (Hinnant, "`chrono`-compatible low-level date algorithms": years begin in March).
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
