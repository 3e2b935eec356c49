//! Moments in RFC 3339: `2015-07-15T00:00:00.123Z`, without the Z where the column has no zone.

/// Moments of a column, between the years 0 and 9999.
pub struct Moments<'a> {
    values: &'a [i64],
    per_second: i64,
    in_utc: bool,
    /// Moments of one batch mostly share their day.
    day: i64,
    date: [u8; 10],
}

/// 0000-01-01 and 10000-01-01, in days from 1970-01-01.
const DAYS: std::ops::Range<i64> = -719_528..2_932_897;
const SECONDS_OF_DAY: i64 = 86_400;

impl<'a> Moments<'a> {
    /// Values in units of which a second has `per_second`; `None` when one of them, or the zone, is for a calendar.
    pub fn new(values: &'a [i64], per_second: i64, zone: Option<&str>) -> Option<Self> {
        let in_utc = match zone {
            None => false,
            Some("UTC" | "+00:00") => true,
            Some(_) => return None,
        };
        let (first, end) = (bound(DAYS.start, per_second), bound(DAYS.end, per_second));
        let fit = values.iter().all(|v| (first..end).contains(&i128::from(*v)));
        fit.then_some(Self { values, per_second, in_utc, day: 0, date: *b"1970-01-01" })
    }

    /// Appends the moment of a row, in quotes.
    #[inline]
    pub fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.values[row];
        let (seconds, fraction) = (value.div_euclid(self.per_second), value.rem_euclid(self.per_second));
        let (day, second) = (seconds.div_euclid(SECONDS_OF_DAY), seconds.rem_euclid(SECONDS_OF_DAY));
        if day != self.day {
            self.day = day;
            self.date = date(day);
        }
        let mut text = *b"\"0000-00-00T00:00:00";
        text[1..11].copy_from_slice(&self.date);
        put(&mut text[12..14], second / 3_600);
        put(&mut text[15..17], second / 60 % 60);
        put(&mut text[18..20], second % 60);
        out.extend_from_slice(&text);
        if fraction != 0 {
            self.write_fraction(fraction, out);
        }
        out.extend_from_slice(if self.in_utc { b"Z\"" } else { b"\"" });
    }

    /// As many digits as are needed, in groups of three.
    fn write_fraction(&self, fraction: i64, out: &mut Vec<u8>) {
        let nanos = fraction * (1_000_000_000 / self.per_second);
        let mut text = *b".000000000";
        put(&mut text[1..10], nanos);
        let digits = match nanos {
            n if n % 1_000_000 == 0 => 3,
            n if n % 1_000 == 0 => 6,
            _ => 9,
        };
        out.extend_from_slice(&text[..=digits]);
    }
}

fn bound(days: i64, per_second: i64) -> i128 {
    i128::from(days) * i128::from(SECONDS_OF_DAY) * i128::from(per_second)
}

/// Writes a number that has at most as many digits as there is room.
fn put(room: &mut [u8], number: i64) {
    let mut number = number.unsigned_abs();
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The date of a day (Hinnant, "`chrono`-compatible low-level date algorithms": years begin in March).
fn date(day: i64) -> [u8; 10] {
    let day = day + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let mut text = *b"0000-00-00";
    let (in_year, month_of_year) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    put(&mut text[..4], era * 400 + year_of_era + in_year);
    put(&mut text[5..7], month_of_year);
    put(&mut text[8..], day_of_year - (153 * month + 2) / 5 + 1);
    text
}
