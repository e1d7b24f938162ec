//! Times as Suricata writes them, in UTC.

use time::OffsetDateTime;

/// `2017-04-07T22:24:37.251547+0000`
pub(super) fn stamp(time: nfv_core::clock::Time) -> String {
    let nanos = i128::from(time.0);
    match OffsetDateTime::from_unix_timestamp_nanos(nanos) {
        Ok(time) => format!("{}.{:06}+0000", date_and_time(time), time.microsecond()),
        Err(_) => String::new(),
    }
}

/// `2014-02-12T14:33:20`; empty when there is no such time.
pub(super) fn seconds(since_1970: i64) -> String {
    OffsetDateTime::from_unix_timestamp(since_1970).map(date_and_time).unwrap_or_default()
}

fn date_and_time(time: OffsetDateTime) -> String {
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfv_core::clock::Time;

    #[test]
    fn a_time_has_microseconds_and_an_offset() {
        assert_eq!(stamp(Time(1_491_603_877_251_547_999)), "2017-04-07T22:24:37.251547+0000");
        assert_eq!(stamp(Time(0)), "1970-01-01T00:00:00.000000+0000");
        assert_eq!(stamp(Time(u64::MAX)), "2554-07-21T23:34:33.709551+0000");
    }

    #[test]
    fn a_certificates_time_has_seconds_alone() {
        assert_eq!(seconds(1_392_215_600), "2014-02-12T14:33:20");
        assert_eq!(seconds(-1), "1969-12-31T23:59:59");
        assert_eq!(seconds(i64::MAX), "");
    }
}
