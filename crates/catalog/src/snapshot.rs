//! One server's offer at one moment: immutable, replaced whole.

use std::sync::Arc;

use transports::ServerName;

use crate::definition;
use crate::entry::{Entry, Hash, Kind, Ref};
use crate::hash;
use crate::listing::Listing;
use crate::look_alike;

/// One server's offer at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The server.
    pub server: ServerName,
    /// Sorted by kind and ref.
    pub entries: Vec<Arc<Entry>>,
    /// Places in `entries`, in the order in which the server listed them.
    listed: Vec<usize>,
    /// Over the sorted (kind, ref, hash) list.
    pub hash: Hash,
    /// From the listing.
    pub ttl_ms: Option<u64>,
    /// From the listing.
    pub public: bool,
    /// From the listing.
    pub truncated: Option<String>,
    /// Definitions left out: no object, no usable name, a name twice, or refused by the specification's rules.
    pub left_out: usize,
}

/// What changed between two snapshots, by ref.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// In the new one only.
    pub added: Vec<String>,
    /// In both, with another hash.
    pub changed: Vec<String>,
    /// In the old one only.
    pub removed: Vec<String>,
}

impl Snapshot {
    /// Builds the compact forms and hashes. Never fails: what cannot be read is left out or marked.
    /// Of two definitions with one name the first stays. CPU-bound for large lists; call it off the async threads.
    #[must_use]
    pub fn build(server: &ServerName, listing: &Listing) -> Self {
        let lists = [
            (Kind::Tool, &listing.tools),
            (Kind::Resource, &listing.resources),
            (Kind::Template, &listing.templates),
            (Kind::Prompt, &listing.prompts),
        ];
        let mut entries = Vec::new();
        let mut left_out = listing.left_out;
        for (kind, raws) in lists {
            for raw in raws {
                match definition::read(server, kind, raw) {
                    Some(entry) => entries.push((entries.len(), entry)),
                    None => left_out += 1,
                }
            }
        }
        // Stable, so that the first of two equal names is the one that stays.
        entries.sort_by(|(_, a), (_, b)| place(a).cmp(&place(b)));
        let read = entries.len();
        entries.dedup_by(|(_, later), (_, earlier)| place(later) == place(earlier));
        left_out += read - entries.len();
        let (order, mut entries): (Vec<usize>, Vec<Entry>) = entries.into_iter().unzip();
        mark_look_alikes(&mut entries);
        let entries: Vec<Arc<Entry>> = entries.into_iter().map(Arc::new).collect();
        let mut listed: Vec<usize> = (0..entries.len()).collect();
        listed.sort_by_key(|at| order[*at]);
        Self {
            server: server.clone(),
            hash: hash::of_catalogue(entries.iter().map(|e| (e.kind, &e.reference, &e.hash))),
            entries,
            listed,
            ttl_ms: listing.ttl_ms,
            public: listing.public,
            truncated: listing.truncated.clone(),
            left_out,
        }
    }

    /// The entries in the order in which the server listed them, kind by kind.
    pub fn as_listed(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.listed.iter().filter_map(|at| self.entries.get(*at))
    }

    /// The raw definitions again, for the store: `Snapshot::build(server, &snapshot.to_listing())` equals this one.
    #[must_use]
    pub fn to_listing(&self) -> Listing {
        let of_kind = |kind: Kind| {
            let those = self.as_listed().filter(|entry| entry.kind == kind);
            those.map(|entry| Arc::clone(&entry.raw)).collect()
        };
        Listing {
            tools: of_kind(Kind::Tool),
            resources: of_kind(Kind::Resource),
            templates: of_kind(Kind::Template),
            prompts: of_kind(Kind::Prompt),
            ttl_ms: self.ttl_ms,
            public: self.public,
            truncated: self.truncated.clone(),
            left_out: self.left_out,
        }
    }

    /// What changed since `old`, each list in the order of entries.
    #[must_use]
    pub fn delta_since(&self, old: &Self) -> Delta {
        let mut delta = Delta::default();
        let mut before = old.entries.iter().peekable();
        for entry in &self.entries {
            while let Some(gone) = before.next_if(|e| place(e) < place(entry)) {
                delta.removed.push(gone.reference.to_string());
            }
            match before.next_if(|e| place(e) == place(entry)) {
                Some(same) if same.hash == entry.hash => {}
                Some(_) => delta.changed.push(entry.reference.to_string()),
                None => delta.added.push(entry.reference.to_string()),
            }
        }
        delta
            .removed
            .extend(before.map(|gone| gone.reference.to_string()));
        delta
    }
}

/// Tools whose names can be taken for one another.
fn mark_look_alikes(entries: &mut [Entry]) {
    let mut tools: Vec<&mut Entry> = entries
        .iter_mut()
        .filter(|entry| entry.kind == Kind::Tool)
        .collect();
    let alike = look_alike::among(tools.iter().map(|tool| &*tool.reference.name));
    for (tool, alike) in tools.iter_mut().zip(alike) {
        tool.look_alike = alike;
    }
}

fn place(entry: &Entry) -> (Kind, &Ref) {
    (entry.kind, &entry.reference)
}

#[cfg(test)]
mod tests;
