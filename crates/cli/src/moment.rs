//! Durations and times as people type them, and RFC 3339 text for the wire. Knows UTC only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

/// A duration or time was not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no duration; write 500ms, 30s, 5m, 2h or 7d")]
pub(crate) struct BadDuration(String);

/// Reads `500ms`, `30s`, `5m`, `2h`, `7d`; a bare number is seconds.
///
/// # Errors
/// [`BadDuration`] for anything else, zero included.
pub(crate) fn duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    let millis = number.checked_mul(unit_ms).filter(|ms| *ms > 0);
    millis.map(Duration::from_millis).ok_or_else(bad)
}

/// A duration means that long ago; what may be a time goes to the bridge as it is (RFC 3339).
///
/// # Errors
/// A usage failure for what begins with no date.
pub(crate) fn since(text: &str) -> Result<String, Failure> {
    if let Ok(ago) = duration(text) {
        let then = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
        return Ok(rfc3339(then));
    }
    let date = text.as_bytes().get(..DATE_BYTES).unwrap_or_default();
    let dated = !date.is_empty()
        && date
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'-');
    if dated {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!("`{text}` is no time"))
        .hint("write how long ago (1h, 30m, 7d), or RFC 3339 (2026-01-31T00:00:00Z)"))
}

/// Characters of `2026-01-31`.
const DATE_BYTES: usize = 10;

/// `2026-11-21T07:30:00Z`.
#[must_use]
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600, rest % 3_600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01 as a Gregorian date: years counted from March, so the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_bare_number_is_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("60s"), Ok(Duration::from_mins(1)));
        assert_eq!(duration("60"), Ok(Duration::from_mins(1)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for bad in ["", "s", "0s", "1.5s", "-1s", "5y", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_795_246_200), "2026-11-21T07:30:00Z");
        let same = "2026-01-01T00:00:00Z";
        assert_eq!(since(same).unwrap(), same);
        assert!(since("yesterday").unwrap_err().hint.unwrap().contains("1h"));
    }
}
