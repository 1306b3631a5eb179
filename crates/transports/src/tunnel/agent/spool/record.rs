//! One record of the spool's log: a line of text that says what follows, then the bytes, then a line end.
//!
//! `P1 <kind> <unix seconds> <length> <crc32> <req_id>\n<bytes>\n`. The sum covers the line before it and the
//! bytes, so that a torn or overwritten record is seen; the next record is found by its `P1 ` at the start of a
//! line. Pure.

use crate::tunnel::id::ReqId;

/// What every record begins with.
const MAGIC: &[u8] = b"P1 ";
/// Longest first line: the numbers and a `req_id` of 128 characters.
const MAX_HEAD_BYTES: usize = 256;

/// What a record says of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was started; nothing else is known.
    Started,
    /// It ended so.
    Result,
    /// Nobody will ask for it again.
    Gone,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Started => 'S',
            Self::Result => 'R',
            Self::Gone => 'G',
        }
    }

    fn of(letter: &str) -> Option<Self> {
        match letter {
            "S" => Some(Self::Started),
            "R" => Some(Self::Result),
            "G" => Some(Self::Gone),
            _ => None,
        }
    }
}

/// A record's place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where the record begins, in bytes.
    pub(super) start: u64,
    /// Where its bytes begin, from `start`.
    pub(super) head: usize,
    /// How many bytes it carries.
    pub(super) body: usize,
    /// The sum over both.
    pub(super) sum: u32,
}

impl Extent {
    /// The whole record, in bytes.
    pub(super) fn size(&self) -> u64 {
        let whole = self.head + self.body + 1;
        u64::try_from(whole).unwrap_or(u64::MAX)
    }
}

/// A record as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) req_id: ReqId,
    /// Seconds since 1970 when it was written.
    pub(super) at: u64,
    pub(super) extent: Extent,
}

/// What a whole log holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) found: Vec<Found>,
    /// Bytes that are part of no record.
    pub(super) damaged_bytes: u64,
}

/// A record to be written, and where it will stand when written at `start`.
pub(super) fn encode(
    (kind, at): (Kind, u64),
    req_id: &str,
    body: &[u8],
    start: u64,
) -> (Vec<u8>, Extent) {
    let before = format!("P1 {} {at} {} ", kind.letter(), body.len());
    let sum = sum(before.as_bytes(), req_id, body);
    let head = format!("{before}{sum:08x} {req_id}\n");
    let mut record = Vec::with_capacity(head.len() + body.len() + 1);
    record.extend_from_slice(head.as_bytes());
    record.extend_from_slice(body);
    record.push(b'\n');
    let extent = Extent {
        start,
        head: head.len(),
        body: body.len(),
        sum,
    };
    (record, extent)
}

/// Whether a record that was read back is the one that was written.
pub(super) fn body_of<'a>(record: &'a [u8], extent: &Extent) -> Option<&'a [u8]> {
    let (found, rest) = decode(record, extent.start)?;
    (found.extent == *extent && rest == record.len()).then_some(())?;
    record.get(extent.head..extent.head + extent.body)
}

/// Every record of a log, and what is left over.
pub(super) fn scan(log: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < log.len() {
        let start = u64::try_from(at).unwrap_or(u64::MAX);
        if let Some((found, size)) = decode(&log[at..], start) {
            scan.found.push(found);
            at += size;
            continue;
        }
        // Damaged: the next record begins at the start of a line.
        let next =
            memchr::memmem::find(&log[at + 1..], b"\nP1 ").map_or(log.len(), |gap| at + gap + 2);
        scan.damaged_bytes += u64::try_from(next - at).unwrap_or(u64::MAX);
        at = next;
    }
    scan
}

/// The record at the beginning of `bytes` and its size.
fn decode(bytes: &[u8], start: u64) -> Option<(Found, usize)> {
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let window = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let head = memchr::memchr(b'\n', window)? + 1;
    let line = std::str::from_utf8(&bytes[..head - 1]).ok()?;
    let mut words = line.splitn(6, ' ').skip(1);
    let kind = Kind::of(words.next()?)?;
    let at = words.next()?.parse().ok()?;
    let body: usize = words.next()?.parse().ok()?;
    let told = words.next()?;
    let req_id = words.next()?;
    let end = head.checked_add(body)?;
    if bytes.get(end) != Some(&b'\n') {
        return None;
    }
    let before = line.len() - told.len() - req_id.len() - 1;
    let sum = sum(&bytes[..before], req_id, &bytes[head..end]);
    if u32::from_str_radix(told, 16) != Ok(sum) {
        return None;
    }
    let checked = ReqId::new(req_id).ok()?;
    let extent = Extent {
        start,
        head,
        body,
        sum,
    };
    let found = Found {
        kind,
        req_id: checked,
        at,
        extent,
    };
    Some((found, end + 1))
}

fn sum(before: &[u8], req_id: &str, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(req_id.as_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<u8> {
        let mut log = Vec::new();
        for (kind, id, body) in [
            (Kind::Started, "call_a", ""),
            (Kind::Result, "call_a", "{\"text\":\"one\\nP1 two\"}"),
            (Kind::Gone, "call_b", ""),
        ] {
            let start = u64::try_from(log.len()).unwrap();
            let (record, extent) = encode((kind, 7), id, body.as_bytes(), start);
            assert_eq!(extent.size(), u64::try_from(record.len()).unwrap());
            assert_eq!(body_of(&record, &extent), Some(body.as_bytes()));
            log.extend(record);
        }
        log
    }

    #[test]
    fn what_was_written_is_found() {
        let scan = scan(&log());
        let found: Vec<_> = scan
            .found
            .iter()
            .map(|f| (f.kind, &*f.req_id, f.at))
            .collect();
        assert_eq!(
            found,
            [
                (Kind::Started, "call_a", 7),
                (Kind::Result, "call_a", 7),
                (Kind::Gone, "call_b", 7)
            ]
        );
        assert_eq!(scan.damaged_bytes, 0);
    }

    #[test]
    fn whichever_byte_is_damaged_only_its_record_is_lost_and_it_is_seen() {
        let whole = log();
        let intact = scan(&whole).found;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let scan = scan(&damaged);
            assert!(scan.damaged_bytes > 0, "byte {at}");
            let kept = intact.iter().filter(|one| scan.found.contains(one)).count();
            // A line end that is gone may take the record after it along.
            assert!(kept >= 1, "byte {at}: {:?}", scan.found);
            assert!(
                scan.found.iter().all(|one| intact.contains(one)),
                "byte {at}"
            );
        }
    }

    #[test]
    fn wherever_it_is_cut_the_records_before_are_whole() {
        let whole = log();
        let intact = scan(&whole).found;
        for end in 0..whole.len() {
            let cut = scan(&whole[..end]);
            let before = intact
                .iter()
                .filter(|one| one.extent.start + one.extent.size() <= u64::try_from(end).unwrap());
            assert_eq!(
                cut.found.iter().collect::<Vec<_>>(),
                before.collect::<Vec<_>>()
            );
        }
    }
}
