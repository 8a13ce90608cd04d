//! Times and spans as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rafka_client::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A point in time: RFC 3339 (`2026-11-21T10:00:00Z`, `2026-11-21`), how long ago (`10m`, `1h30m`, `2d`), or
/// milliseconds since 1970.
///
/// # Errors
/// What would be legal.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Timestamp).map_err(|_| format!("{text:?} is too large for milliseconds since 1970"));
    }
    if let Ok(ago) = parse_span(text.strip_suffix(" ago").unwrap_or(text)) {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp(now.0.saturating_sub(ago).max(0)));
    }
    parse_rfc3339(text).map(Timestamp).ok_or_else(|| {
        format!("{text:?} is no time; write 2026-11-21T10:00:00Z, 10m (ago), or milliseconds since 1970")
    })
}

/// As [`parse_time`] with the clock of this machine, for flags.
pub(crate) fn time_flag(text: &str) -> Result<Timestamp, String> {
    parse_time(text, now())
}

/// A span: `500ms`, `30s`, `10m`, `1h30m`, `2d`.
///
/// # Errors
/// What would be legal.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time span; write 500ms, 30s, 10m, 1h30m or 2d");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Milliseconds since 1970 of an RFC 3339 time; a date alone is its first moment in UTC.
fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let days = parse_date(date)?;
    let Some(time) = time else { return days.checked_mul(DAY_MS) };
    let (clock, shift_minutes) = split_zone(time)?;
    let (clock, milliseconds) = match clock.split_once('.') {
        Some((clock, fraction)) if !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
            (clock, digits.parse::<i64>().ok()?)
        }
        Some(_) => return None,
        None => (clock, 0),
    };
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 2, 23)?;
    let minute = number(parts.next()?, 2, 59)?;
    let second = parts.next().map_or(Some(0), |second| number(second, 2, 60))?;
    if parts.next().is_some() {
        return None;
    }
    let seconds = (hour * 60 + minute - shift_minutes) * 60 + second;
    days.checked_mul(DAY_MS)?.checked_add(seconds * 1000 + milliseconds)
}

fn parse_date(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4, 9999)?;
    let month = number(parts.next()?, 2, 12)?;
    let day = number(parts.next()?, 2, 31)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if parts.next().is_some() || month < 1 || day < 1 || day > longest {
        return None;
    }
    Some(days_from_civil(year, month, day))
}

/// The clock, and minutes east of UTC.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let (hours, minutes) = zone[1..].split_once(':')?;
    let minutes = number(hours, 2, 23)? * 60 + number(minutes, 2, 59)?;
    Some((clock, if zone.starts_with('-') { -minutes } else { minutes }))
}

fn number(text: &str, digits: usize, max: i64) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().filter(|number| *number <= max)
}

/// Days since 1970-01-01 (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn show_time(time: Timestamp) -> String {
    if time == Timestamp::NONE {
        return "-".to_owned();
    }
    let (days, ms) = (time.0.div_euclid(DAY_MS), time.0.rem_euclid(DAY_MS));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// A span for people: `84 ms`, `1.52 s`, `3 m 20 s`.
pub(crate) fn show_span(span: Duration) -> String {
    let ms = span.as_secs_f64() * 1000.0;
    match span.as_secs() {
        0 if ms < 1.0 => format!("{:.0} µs", ms * 1000.0),
        0 if ms < 10.0 => format!("{ms:.1} ms"),
        0 => format!("{ms:.0} ms"),
        1..60 => format!("{:.2} s", ms / 1000.0),
        seconds => format!("{} m {} s", seconds / 60, seconds % 60),
    }
}

/// Bytes for people: `512 B`, `1.5 MiB`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_229_425_000);

    fn at(text: &str) -> Result<i64, String> {
        parse_time(text, NOW).map(|time| time.0)
    }

    #[test]
    fn times_are_absolute_relative_or_milliseconds() {
        assert_eq!(at("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(at("2024-02-29T12:30:15.25+02:00"), Ok(1_709_202_615_250));
        assert_eq!(at("2024-02-29 10:30"), Err(at("2024-02-29 10:30").expect_err("no zone")));
        assert_eq!(at("2026-11-21"), Ok(20_778 * DAY_MS));
        assert_eq!(at("10m"), Ok(NOW.0 - 600_000));
        assert_eq!(at("1h30m"), Ok(NOW.0 - 5_400_000));
        assert_eq!(at("10m ago"), at("10m"));
        assert_eq!(at("99999999d"), Ok(0));
        assert_eq!(at("1795229425000"), Ok(NOW.0));
    }

    #[test]
    fn what_is_no_time_says_what_would_be() {
        for wrong in
            ["", "yesterday", "2026-13-01", "2026-02-30", "2026-11-21T25:00:00Z", "-5m", "5x", "2026-11-21T10:00:00.Z"]
        {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        assert!(at("soon").expect_err("refused").contains("10m (ago)"));
        assert!(at("99999999999999999999").is_err());
    }

    #[test]
    fn shown_times_parse_back() {
        for ms in [0, 1, NOW.0, 951_782_400_000, 4_102_444_799_999] {
            assert_eq!(at(&show_time(Timestamp(ms))), Ok(ms), "{}", show_time(Timestamp(ms)));
        }
        assert_eq!(show_time(NOW), "2026-11-21T02:50:25.000Z");
        assert_eq!(show_time(Timestamp::NONE), "-");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!(parse_span("1d2h3m4s5ms"), Ok(Duration::from_millis(93_784_005)));
        assert!(parse_span("10").is_err());
        assert_eq!(show_span(Duration::from_millis(84)), "84 ms");
        assert_eq!(show_span(Duration::from_millis(1520)), "1.52 s");
        assert_eq!(show_span(Duration::from_secs(200)), "3 m 20 s");
        assert_eq!((show_bytes(512), show_bytes(1_572_864)), ("512 B".to_owned(), "1.5 MiB".to_owned()));
    }
}
