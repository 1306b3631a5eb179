//! Walks one chain from its beginning and finds the first place where it does not hold. Reads nothing itself.

use super::entry::Line;
use super::signed::{SignedPlace, Signer};
use super::{Link, PlaceKind};

/// What a walk along one chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries looked at.
    pub entries: u64,
    /// The first number at which the chain does not hold, and why.
    pub first_bad: Option<(u64, &'static str)>,
    /// The last entry that holds.
    pub end: Link,
}

/// A walk that has come so far.
#[derive(Debug)]
pub(crate) struct Walk {
    found: Verified,
    head: Option<SignedPlace>,
}

impl Walk {
    /// From the beginning: the anchor retention left, or before the first entry. `head` is the newest signed end.
    pub(crate) fn new(
        signer: &Signer,
        anchor: Option<&SignedPlace>,
        head: Option<SignedPlace>,
    ) -> Self {
        let start = anchor.map_or(Link::START, |anchor| anchor.place.link);
        let mut found = Verified {
            entries: 0,
            first_bad: None,
            end: start,
        };
        let good = |signed: &SignedPlace, kind: PlaceKind| {
            signed.place.kind == kind && signer.signed(signed)
        };
        if anchor.is_some_and(|anchor| !good(anchor, PlaceKind::Anchor)) {
            found.first_bad = Some((start.seq, "the anchor is not signed by this bridge"));
        }
        if let Some(head) = &head
            && !good(head, PlaceKind::Head)
        {
            found.first_bad = Some((head.place.link.seq, "the head is not signed by this bridge"));
        }
        Self { found, head }
    }

    /// Whether a fault was found: nothing after it is looked at.
    pub(crate) fn is_over(&self) -> bool {
        self.found.first_bad.is_some()
    }

    /// Where the walk stands.
    pub(crate) fn at(&self) -> Link {
        self.found.end
    }

    /// Looks at the next entry.
    pub(crate) fn step(&mut self, line: &mut Line) {
        if self.is_over() {
            return;
        }
        let (seq, wanted) = (line.entry.seq, self.found.end.seq + 1);
        if seq > wanted {
            self.found.first_bad = Some((wanted, "the entry is missing"));
            return;
        }
        if seq < wanted {
            self.found.first_bad = Some((seq, "the number is taken twice"));
            return;
        }
        self.found.entries += 1;
        let next = self.found.end.next(&mut line.entry);
        if line.stored != Some(next.hash) {
            let why = "the entry was changed, or does not follow from the one before";
            self.found.first_bad = Some((seq, why));
            return;
        }
        let head = self.head.as_ref().map(|head| head.place.link);
        if head.is_some_and(|head| head.seq == seq && head.hash != next.hash) {
            self.found.first_bad = Some((seq, "the entry is not the one that was signed here"));
            return;
        }
        self.found.end = next;
    }

    /// The end of the chain is reached.
    pub(crate) fn finish(mut self) -> Verified {
        let end = self.found.end.seq;
        if let Some(head) = &self.head
            && self.found.first_bad.is_none()
            && head.place.link.seq > end
        {
            self.found.first_bad = Some((end + 1, "entries that were signed are missing"));
        }
        self.found
    }
}
