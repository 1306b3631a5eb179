//! What differs between two definitions, place by place. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Change;

/// Differences leaf by leaf; lists count as leaves.
pub(super) fn compare(
    pointer: &str,
    from: Option<&Value>,
    to: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    if from == to {
        return;
    }
    let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
    if let (Some(old), Some(new)) = (object(from), object(to)) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let place = format!("{pointer}/{escaped}");
            compare(&place, old.get(name), new.get(name), changes);
        }
        return;
    }
    changes.push(Change {
        pointer: pointer.to_owned(),
        from: from.cloned(),
        to: to.cloned(),
    });
}
