//! Verifies an export of the audit record line by line. Pure; knows of an entry only how it hangs together, so that
//! records of newer bridges can be verified, too.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The hash before a chain's first entry.
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A signed place of a chain, in the order in which it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    chain: String,
    hash: String,
    kind: String,
    seq: u64,
    signed_at: String,
    workspace: String,
    #[serde(skip_serializing)]
    signature: String,
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Which line of the file, from 1; one past the last where something is missing at the end, 0 for a head.
    pub(crate) line: u64,
    /// Which entry.
    pub(crate) seq: Option<u64>,
    why: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.seq) {
            (0, _) => write!(f, "{}", self.why),
            (line, Some(seq)) => write!(f, "line {line}, entry {seq}: {}", self.why),
            (line, None) => write!(f, "line {line}: {}", self.why),
        }
    }
}

/// What an entry says of its place.
#[derive(Deserialize)]
struct Links {
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    chain: String,
    seq: u64,
    prev: String,
    hash: String,
}

#[derive(Debug, Clone)]
struct End {
    first: u64,
    seq: u64,
    hash: String,
    line: u64,
}

type ChainName = (String, String);

/// A verification that has come so far.
#[derive(Debug)]
pub(crate) struct Checker {
    places: Vec<Place>,
    partial: bool,
    signed: bool,
    lines: u64,
    ends: HashMap<ChainName, End>,
}

impl Checker {
    /// Begins. The places are checked against the key first; without one their signatures say nothing and they are
    /// refused. `partial`: the export was narrowed, so gaps are no fault.
    pub(crate) fn new(
        places: Vec<Place>,
        key: Option<VerifyingKey>,
        partial: bool,
    ) -> Result<Self, Bad> {
        let refused = |place: &Place, why: &str| Bad {
            line: 0,
            seq: Some(place.seq),
            why: format!("the {} at entry {} {why}", place.kind, place.seq),
        };
        for place in &places {
            let Some(key) = &key else {
                return Err(refused(place, "cannot be checked without --key"));
            };
            if !place.is_signed_by(key) {
                return Err(refused(place, "is not signed by this key"));
            }
        }
        Ok(Self {
            signed: places.iter().any(|place| place.kind == "head"),
            places,
            partial,
            lines: 0,
            ends: HashMap::new(),
        })
    }

    /// Looks at the next line.
    pub(crate) fn line(&mut self, text: &[u8]) -> Result<(), Bad> {
        self.lines += 1;
        let line = self.lines;
        let bad = |seq: Option<u64>, why: &str| Bad {
            line,
            seq,
            why: why.to_owned(),
        };
        let mut entry: Value =
            serde_json::from_slice(text).map_err(|_| bad(None, "is no JSON document"))?;
        let links = Links::deserialize(&entry).map_err(|_| bad(None, "is no audit entry"))?;
        if let Some(members) = entry.as_object_mut() {
            members.remove("hash");
        }
        let canonical = serde_json_canonicalizer::to_vec(&entry)
            .map_err(|_| bad(Some(links.seq), "has no canonical form"))?;
        if hex::encode(Sha256::digest(&canonical)) != links.hash {
            return Err(bad(Some(links.seq), "the entry was changed"));
        }
        let name = (links.workspace.clone(), links.chain.clone());
        match self.ends.get(&name).cloned() {
            Some(end) if !self.partial => follows(&end, &links, line)?,
            Some(_) => {}
            None => self.begins(&name, &links)?,
        }
        let changed = self
            .of(&name, "head")
            .any(|place| place.seq == links.seq && place.hash != links.hash);
        if changed {
            return Err(bad(
                Some(links.seq),
                "the entry is not the one that was signed here",
            ));
        }
        let first = self.ends.get(&name).map_or(links.seq, |end| end.first);
        self.ends.insert(
            name,
            End {
                first,
                seq: links.seq,
                hash: links.hash,
                line,
            },
        );
        Ok(())
    }

    /// The file has ended.
    pub(crate) fn finish(self) -> Result<Held, Bad> {
        for place in self.places.iter().filter(|place| place.kind == "head") {
            let name = (place.workspace.clone(), place.chain.clone());
            let end = self.ends.get(&name);
            let seq = end.map_or(0, |end| end.seq);
            if place.seq > seq && !self.partial {
                return Err(Bad {
                    line: end.map_or(self.lines, |end| end.line) + 1,
                    seq: Some(seq + 1),
                    why: format!(
                        "entries {} to {} are missing at the end: the head signed at {} has them",
                        seq + 1,
                        place.seq,
                        place.signed_at
                    ),
                });
            }
        }
        Ok(Held {
            entries: self.lines,
            signed: self.signed,
            partial: self.partial,
            ends: self.ends.into_iter().collect(),
        })
    }

    fn of<'p>(&'p self, name: &'p ChainName, kind: &'p str) -> impl Iterator<Item = &'p Place> {
        self.places.iter().filter(move |place| {
            place.kind == kind && place.workspace == name.0 && place.chain == name.1
        })
    }

    /// The first line of a chain begins it, or continues where an anchor says that older ones were removed.
    fn begins(&self, name: &ChainName, links: &Links) -> Result<(), Bad> {
        let first = links.seq == 1 && links.prev == ZEROS;
        let anchored = self
            .of(name, "anchor")
            .any(|place| place.seq + 1 == links.seq && place.hash == links.prev);
        if first || anchored || self.partial {
            return Ok(());
        }
        Err(Bad {
            line: self.lines,
            seq: Some(1),
            why: format!(
                "entries 1 to {} are missing, and no signed anchor says that they were removed by retention",
                links.seq.saturating_sub(1)
            ),
        })
    }
}

/// Whether an entry stands where it belongs.
fn follows(end: &End, links: &Links, line: u64) -> Result<(), Bad> {
    let wanted = end.seq + 1;
    if links.seq > wanted {
        return Err(Bad {
            line,
            seq: Some(wanted),
            why: format!("entries {wanted} to {} are missing here", links.seq - 1),
        });
    }
    if links.seq < wanted {
        return Err(Bad {
            line,
            seq: Some(links.seq),
            why: "the number came before: the line was inserted, repeated or moved".to_owned(),
        });
    }
    if links.prev != end.hash {
        // The entry itself holds and continues another one: that one was replaced.
        return Err(Bad {
            line: end.line,
            seq: Some(end.seq),
            why: "the entry was replaced: the next one continues another".to_owned(),
        });
    }
    Ok(())
}

impl Place {
    fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let statement = serde_json::to_vec(self).unwrap_or_default();
        let bytes = STANDARD.decode(&self.signature).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| key.verify_strict(&statement, &signature).is_ok())
    }
}

/// What was found of a record that holds.
#[derive(Debug)]
pub(crate) struct Held {
    entries: u64,
    signed: bool,
    partial: bool,
    ends: Vec<(ChainName, End)>,
}

impl Held {
    /// For people.
    pub(crate) fn sentence(&self) -> String {
        let what = match (self.partial, self.signed) {
            (true, _) => "each as it was written; what lies between them is not in the file",
            (false, true) => "whole and unchanged up to the signed head",
            (false, false) => "unchanged and without a gap; the end is not signed",
        };
        format!("ok: {} entries, {what}", self.entries)
    }

    /// For programs.
    pub(crate) fn document(&self) -> Value {
        let chains = self.ends.iter().map(|((workspace, chain), end)| {
            json!({
                "workspace": workspace, "chain": chain,
                "first": end.first, "seq": end.seq, "hash": end.hash,
            })
        });
        json!({
            "ok": true, "entries": self.entries, "signed": self.signed, "partial": self.partial,
            "chains": chains.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    /// Entries as a bridge would export them.
    fn export(count: u64) -> Vec<String> {
        let mut prev = ZEROS.to_owned();
        (1..=count)
            .map(|seq| {
                let line = made(seq, &prev, "ann");
                prev = serde_json::from_str::<Value>(&line).unwrap()["hash"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                line
            })
            .collect()
    }

    fn made(seq: u64, prev: &str, user: &str) -> String {
        let mut entry = json!({
            "workspace": "default", "chain": "local", "seq": seq, "prev": prev, "user": user, "newer": [1.5, "é"],
        });
        let hash = hex::encode(Sha256::digest(
            serde_json_canonicalizer::to_vec(&entry).unwrap(),
        ));
        entry["hash"] = hash.into();
        entry.to_string()
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn place(kind: &str, line: &str) -> Place {
        let entry: Value = serde_json::from_str(line).unwrap();
        let mut place = Place {
            chain: "local".into(),
            hash: entry["hash"].as_str().unwrap().into(),
            kind: kind.into(),
            seq: entry["seq"].as_u64().unwrap(),
            signed_at: "2026-01-01T00:00:00.000Z".into(),
            workspace: "default".into(),
            signature: String::new(),
        };
        let statement = serde_json::to_vec(&place).unwrap();
        place.signature = STANDARD.encode(key().sign(&statement).to_bytes());
        place
    }

    fn check(lines: &[String], places: Vec<Place>) -> Result<Held, Bad> {
        let mut checker = Checker::new(places, Some(key().verifying_key()), false)?;
        for line in lines {
            checker.line(line.as_bytes())?;
        }
        checker.finish()
    }

    /// Where the fault is found: line and entry.
    fn fault(lines: &[String], places: Vec<Place>) -> (u64, Option<u64>) {
        let bad = check(lines, places).unwrap_err();
        (bad.line, bad.seq)
    }

    #[test]
    fn a_record_as_it_was_exported_holds() {
        let lines = export(20);
        let head = place("head", &lines[19]);
        let checked = check(&lines, vec![head]).unwrap();
        assert_eq!(checked.document()["entries"], 20);
        assert!(checked.sentence().contains("signed head"));
    }

    #[test]
    fn whatever_is_done_to_a_line_is_found_there() {
        let lines = export(20);
        let head = || vec![place("head", &lines[19])];
        let edited = |edit: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            edit(&mut lines);
            lines
        };
        let changed = edited(&|lines| lines[6] = lines[6].replace("ann", "bob"));
        assert_eq!(fault(&changed, head()), (7, Some(7)));
        let nonsense = edited(&|lines| lines[6] = "{".into());
        assert_eq!(fault(&nonsense, head()), (7, None));
        let removed = edited(&|lines| drop(lines.remove(6)));
        assert_eq!(fault(&removed, head()), (7, Some(7)));
        let first = edited(&|lines| drop(lines.remove(0)));
        assert_eq!(fault(&first, head()), (1, Some(1)));
        let inserted = edited(&|lines| lines.insert(6, lines[2].clone()));
        assert_eq!(fault(&inserted, head()), (7, Some(3)));
        let swapped = edited(&|lines| lines.swap(6, 7));
        assert_eq!(fault(&swapped, head()), (7, Some(7)));
        let short = edited(&|lines| lines.truncate(15));
        assert_eq!(fault(&short, head()), (16, Some(16)));
        assert!(
            check(&short, Vec::new()).is_ok(),
            "without a head nobody can tell"
        );
        assert_eq!(fault(&[], head()), (1, Some(1)));
    }

    #[test]
    fn an_entry_replaced_with_its_hash_is_found_by_the_next() {
        let mut lines = export(20);
        let prev = serde_json::from_str::<Value>(&lines[5]).unwrap()["hash"].clone();
        lines[6] = made(7, prev.as_str().unwrap(), "bob");
        assert_eq!(fault(&lines, Vec::new()), (7, Some(7)));
    }

    #[test]
    fn a_record_written_anew_from_somewhere_on_does_not_meet_its_head() {
        let lines = export(20);
        let head = place("head", &lines[19]);
        let mut forged = lines[..6].to_vec();
        for seq in 7..=20 {
            let prev =
                serde_json::from_str::<Value>(forged.last().unwrap()).unwrap()["hash"].clone();
            forged.push(made(seq, prev.as_str().unwrap(), "bob"));
        }
        assert!(check(&forged, Vec::new()).is_ok());
        assert_eq!(fault(&forged, vec![head]), (20, Some(20)));
    }

    #[test]
    fn a_record_cut_by_retention_continues_a_signed_anchor() {
        let lines = export(20);
        let places = vec![place("anchor", &lines[4]), place("head", &lines[19])];
        assert!(check(&lines[5..], places.clone()).is_ok());
        assert_eq!(fault(&lines[6..], places), (1, Some(1)));
        let mut forged = place("anchor", &lines[4]);
        forged.seq = 6;
        assert_eq!(fault(&lines[6..], vec![forged]), (0, Some(6)));
    }

    #[test]
    fn entries_of_a_narrowed_export_are_checked_one_by_one() {
        let lines = export(20);
        let some = [lines[9].clone(), lines[3].clone()];
        let mut checker = Checker::new(Vec::new(), None, true).unwrap();
        for line in &some {
            checker.line(line.as_bytes()).unwrap();
        }
        assert!(
            checker
                .finish()
                .unwrap()
                .sentence()
                .contains("each as it was")
        );
        let mut checker = Checker::new(Vec::new(), None, true).unwrap();
        let changed = lines[3].replace("ann", "bob");
        assert_eq!(checker.line(changed.as_bytes()).unwrap_err().line, 1);
    }
}
