//! References and `allOf` put in place, within a budget: a schema too tangled for it is shown with a mark of loss.

use crate::json::Json;
use crate::schema::{merge, reference, without};
use crate::shape::reader::{MAX_DEPTH, Reader};

/// Subschemas looked at for one shape: more than 240 characters can show, few enough for 50,000 tools.
const MAX_NODES: usize = 500;

impl Reader<'_> {
    /// The node with its references and `allOf` put in place, one level deep.
    pub(super) fn flat(&mut self, node: &Json) -> Json {
        let mut flat = node.clone();
        loop {
            let next = match (
                reference(&flat).map(str::to_owned),
                flat.get("allOf").cloned(),
            ) {
                (Some(target), _) => self.with_target(&flat, &target),
                (None, Some(parts)) => self.with_parts(&flat, parts.items()),
                (None, None) => return flat,
            };
            if !self.spend() {
                // A schema this tangled is over its bounds elsewhere; here it only has to end.
                self.lost = true;
                return without(&without_references(&flat), "allOf");
            }
            flat = next;
        }
    }

    fn with_target(&mut self, node: &Json, target: &str) -> Json {
        let rest = without_references(node);
        let Some(found) = self.document.resolve(target) else {
            self.lost = true;
            return rest;
        };
        let (both, lost) = merge(&rest, found);
        self.lost |= lost;
        both
    }

    fn with_parts(&mut self, node: &Json, parts: &[Json]) -> Json {
        let mut flat = without(node, "allOf");
        self.depth += 1;
        for part in parts {
            if self.depth >= MAX_DEPTH || !self.spend() {
                self.lost = true;
                break;
            }
            let part = self.flat(part);
            let (both, lost) = merge(&flat, &part);
            self.lost |= lost;
            flat = both;
        }
        self.depth -= 1;
        flat
    }

    /// Counts one more subschema; false when there were too many.
    pub(super) fn spend(&mut self) -> bool {
        self.nodes += 1;
        self.nodes <= MAX_NODES
    }

    /// References a node reaches through other references or `allOf` are open inside it too.
    pub(super) fn open_chain(&mut self, schema: &Json) {
        let mut next = vec![schema];
        let mut steps = 0;
        while let Some(node) = next.pop() {
            steps += 1;
            if steps > MAX_DEPTH {
                return;
            }
            if let Some(target) = reference(node) {
                if !self.open.iter().any(|open| open == target) {
                    self.open.push(target.to_owned());
                }
                next.extend(self.document.resolve(target));
            }
            next.extend(node.get("allOf").map(Json::items).unwrap_or_default());
        }
    }
}

fn without_references(node: &Json) -> Json {
    let bare = without(node, "$ref");
    without(&without(&bare, "$dynamicRef"), "$recursiveRef")
}
