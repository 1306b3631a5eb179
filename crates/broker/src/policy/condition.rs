//! Conditions over the arguments of a call: a place, a comparison, a value. Made once, when the configuration is
//! read; what they cost is bounded by the arguments they are held against. No expression language (decision 0011).

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::pattern::glob;

/// Longest place, in bytes and in steps: arguments are rarely deeper than three.
const MAX_PLACE_BYTES: usize = 256;
const MAX_STEPS: usize = 8;
/// Most values of `in` and `not_in`.
const MAX_VALUES: usize = 64;
/// Largest value compared with, in bytes of JSON.
const MAX_VALUE_BYTES: usize = 4096;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal JSON; 1 and 1.0 are equal.
    Eq,
    /// Not equal, or not there.
    Ne,
    /// A number above.
    Gt,
    /// A number not below.
    Ge,
    /// A number below.
    Lt,
    /// A number not above.
    Le,
    /// One of a list.
    In,
    /// None of a list, or not there.
    NotIn,
    /// A text like a pattern with `*`.
    Like,
    /// A text unlike it.
    NotLike,
    /// There (`true`) or not (`false`).
    Exists,
}

/// A condition as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenCondition {
    /// A JSON pointer into the arguments, such as `/path` or `/items/*/price`; `*` means any element or member.
    pub arg: String,
    /// How it is compared.
    pub op: Comparison,
    /// With what.
    pub value: Value,
}

/// A condition that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenCondition", into = "WrittenCondition")]
pub struct Condition {
    written: WrittenCondition,
    steps: Vec<Box<str>>,
}

/// Why a condition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCondition {
    /// The place is no pointer.
    #[error(
        "arg must be a JSON pointer such as /path, of at most {MAX_STEPS} steps and {MAX_PLACE_BYTES} bytes"
    )]
    Place,
    /// The value does not go with the comparison.
    #[error("value must be {0}")]
    Value(&'static str),
}

impl TryFrom<WrittenCondition> for Condition {
    type Error = BadCondition;

    fn try_from(written: WrittenCondition) -> Result<Self, BadCondition> {
        let steps = steps(&written.arg).ok_or(BadCondition::Place)?;
        let value = &written.value;
        let wanted = match written.op {
            Comparison::Eq | Comparison::Ne => None,
            Comparison::Gt | Comparison::Ge | Comparison::Lt | Comparison::Le => {
                (!value.is_number()).then_some("a number")
            }
            Comparison::In | Comparison::NotIn => {
                let fits = value.as_array().is_some_and(|all| all.len() <= MAX_VALUES);
                (!fits).then_some("a list of at most 64 values")
            }
            Comparison::Like | Comparison::NotLike => (!value.is_string()).then_some("a text"),
            Comparison::Exists => (!value.is_boolean()).then_some("true or false"),
        };
        if let Some(wanted) = wanted {
            return Err(BadCondition::Value(wanted));
        }
        if value.to_string().len() > MAX_VALUE_BYTES {
            return Err(BadCondition::Value("at most 4096 bytes long"));
        }
        Ok(Self { written, steps })
    }
}

impl From<Condition> for WrittenCondition {
    fn from(condition: Condition) -> Self {
        condition.written
    }
}

/// RFC 6901, without the pointer to the whole.
fn steps(pointer: &str) -> Option<Vec<Box<str>>> {
    let rest = pointer.strip_prefix('/')?;
    let steps: Vec<Box<str>> = rest
        .split('/')
        .map(|step| step.replace("~1", "/").replace("~0", "~").into())
        .collect();
    (pointer.len() <= MAX_PLACE_BYTES && steps.len() <= MAX_STEPS).then_some(steps)
}

impl Condition {
    /// Whether it holds; `None` when the comparison cannot be made, because the value is missing or of another
    /// kind. Of several values one is enough.
    pub(super) fn holds(&self, arguments: &Value) -> Option<bool> {
        let mut found = Found::default();
        walk(arguments, &self.steps, &mut |value| {
            found.add(self.compare(Some(value)));
        });
        if found.any {
            found.verdict()
        } else {
            self.compare(None)
        }
    }

    fn compare(&self, value: Option<&Value>) -> Option<bool> {
        let wanted = &self.written.value;
        let ordered = |fits: fn(Ordering) -> bool| {
            let (Some(Value::Number(value)), Value::Number(wanted)) = (value, wanted) else {
                return None;
            };
            order(value, wanted).map(fits)
        };
        let among = || {
            let all = wanted.as_array();
            value.is_some_and(|value| all.is_some_and(|all| all.iter().any(|one| same(one, value))))
        };
        let alike = || {
            let text = value.and_then(Value::as_str)?;
            Some(glob(wanted.as_str()?.as_bytes(), text.as_bytes()))
        };
        match self.written.op {
            Comparison::Eq => Some(value.is_some_and(|value| same(value, wanted))),
            Comparison::Ne => Some(!value.is_some_and(|value| same(value, wanted))),
            Comparison::Gt => ordered(Ordering::is_gt),
            Comparison::Ge => ordered(Ordering::is_ge),
            Comparison::Lt => ordered(Ordering::is_lt),
            Comparison::Le => ordered(Ordering::is_le),
            Comparison::In => Some(among()),
            Comparison::NotIn => Some(!among()),
            Comparison::Like => alike(),
            Comparison::NotLike => alike().map(|alike| !alike),
            Comparison::Exists => Some(value.is_some() == (*wanted == Value::Bool(true))),
        }
    }
}

/// What came of the values of one place.
#[derive(Debug, Default)]
struct Found {
    any: bool,
    held: bool,
    unclear: bool,
}

impl Found {
    fn add(&mut self, held: Option<bool>) {
        self.any = true;
        self.held |= held == Some(true);
        self.unclear |= held.is_none();
    }

    fn verdict(&self) -> Option<bool> {
        match (self.held, self.unclear) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }
}

/// Every value of a place, each visited once.
fn walk<'v>(value: &'v Value, steps: &[Box<str>], visit: &mut impl FnMut(&'v Value)) {
    let Some((step, rest)) = steps.split_first() else {
        return visit(value);
    };
    match (value, &**step) {
        (Value::Array(all), "*") => all.iter().for_each(|one| walk(one, rest, visit)),
        (Value::Object(all), "*") => all.values().for_each(|one| walk(one, rest, visit)),
        (Value::Array(all), step) => {
            let one = step.parse::<usize>().ok().and_then(|at| all.get(at));
            if let Some(one) = one {
                walk(one, rest, visit);
            }
        }
        (Value::Object(all), step) => {
            if let Some(one) = all.get(step) {
                walk(one, rest, visit);
            }
        }
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => {}
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => order(one, other) == Some(Ordering::Equal),
        _ => one == other,
    }
}

/// Whole numbers exactly, others as doubles.
fn order(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(arg: &str, op: &str, value: &Value) -> Condition {
        serde_json::from_value(json!({"arg": arg, "op": op, "value": value})).unwrap()
    }

    #[test]
    fn values_are_compared_as_they_are_and_never_guessed() {
        let arguments = json!({
            "amount": 1000, "big": 9_007_199_254_740_993_u64, "path": "/etc/passwd", "force": true,
            "items": [{"price": 3}, {"price": 20}], "a/b": {"~": null}, "text": "1000",
        });
        for (arg, op, value, holds) in [
            ("/amount", "gt", json!(999.5), Some(true)),
            ("/amount", "gt", json!(1000), Some(false)),
            ("/amount", "ge", json!(1000), Some(true)),
            ("/amount", "eq", json!(1000.0), Some(true)),
            ("/big", "eq", json!(9_007_199_254_740_992_u64), Some(false)),
            ("/text", "gt", json!(1), None),
            ("/text", "eq", json!(1000), Some(false)),
            ("/path", "like", json!("/etc/*"), Some(true)),
            ("/path", "not_like", json!("/home/*"), Some(true)),
            ("/amount", "like", json!("*"), None),
            ("/missing", "lt", json!(5), None),
            ("/missing", "ne", json!(5), Some(true)),
            ("/missing", "in", json!([5]), Some(false)),
            ("/missing", "not_in", json!([5]), Some(true)),
            ("/missing", "exists", json!(false), Some(true)),
            ("/force", "exists", json!(true), Some(true)),
            ("/force", "in", json!([true, "yes"]), Some(true)),
            ("/items/*/price", "gt", json!(10), Some(true)),
            ("/items/*/price", "gt", json!(100), Some(false)),
            ("/items/0/price", "eq", json!(3), Some(true)),
            ("/items/*", "gt", json!(1), None),
            ("/a~1b/~0", "eq", json!(null), Some(true)),
        ] {
            let found = condition(arg, op, &value).holds(&arguments);
            assert_eq!(found, holds, "{arg} {op} {value}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused_when_it_is_read() {
        let deep = "/a".repeat(9);
        for (arg, op, value) in [
            ("path", "eq", json!(1)),
            ("", "eq", json!(1)),
            (deep.as_str(), "eq", json!(1)),
            ("/a", "gt", json!("1")),
            ("/a", "in", json!(1)),
            ("/a", "in", json!(vec![0; 65])),
            ("/a", "like", json!(1)),
            ("/a", "exists", json!(1)),
            ("/a", "eq", json!("x".repeat(5000))),
            ("/a", "matches", json!("x")),
        ] {
            let written = json!({"arg": arg, "op": op, "value": value});
            assert!(
                serde_json::from_value::<Condition>(written).is_err(),
                "{arg} {op}"
            );
        }
    }
}
