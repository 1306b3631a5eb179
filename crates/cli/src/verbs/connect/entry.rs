//! The bridge as one entry among a host's MCP servers, in words every format can write. Pure.

use jsonc_parser::cst::CstInputValue;
use serde_json::{Map, Value, json};

/// The environment variable a host takes the key from.
pub(crate) const TOKEN_VARIABLE: &str = "PAPERBOT_TOKEN";

/// What VS Code calls the key it asks for.
pub(crate) const TOKEN_INPUT: &str = "paperbot-token";

/// This program, as hosts start it.
pub(crate) const PROGRAM: &str = "paperbot-mcp";

/// What belongs to a server that is started, in any host's words.
const OF_STDIO: &[&str] = &[
    "command",
    "args",
    "env",
    "env_vars",
    "environment",
    "envFile",
    "cwd",
];

/// What belongs to a server that is asked over HTTP, in any host's words.
const OF_HTTP: &[&str] = &[
    "url",
    "httpUrl",
    "serverUrl",
    "headers",
    "http_headers",
    "env_http_headers",
    "bearer_token_env_var",
    "oauth",
];

/// A value in order, because people read these files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Member {
    Text(String),
    Flag(bool),
    List(Vec<String>),
    /// Merged into one that is there.
    Table(Vec<(&'static str, Member)>),
}

/// One entry as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where the host keeps its servers.
    pub(crate) place: &'static [&'static str],
    /// What the host calls it.
    pub(crate) name: String,
    /// What it must have; whatever else it has, stays.
    pub(crate) members: Vec<(&'static str, Member)>,
    /// The question VS Code asks for the key.
    pub(crate) input: Option<Member>,
}

/// Why a file cannot take the entry. Never quotes the file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The syntax is wrong.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// In words.
        what: String,
    },
    /// Something else stands where servers belong.
    #[error("its {0} is not what the host expects there")]
    Shape(String),
    /// The name is another server's.
    #[error("its `{0}` is another server")]
    Taken(String),
    /// Writing would change more than the entry, as with a key that is there twice.
    #[error("it cannot be changed safely; is a key in it twice?")]
    Unsafe,
}

impl Member {
    /// As JSON, for comparing.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Flag(flag) => json!(flag),
            Self::List(items) => json!(items),
            Self::Table(members) => members
                .iter()
                .map(|(name, member)| ((*name).to_owned(), member.value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// As JSON, for writing.
    pub(crate) fn input(&self) -> CstInputValue {
        match self {
            Self::Text(text) => CstInputValue::String(text.clone()),
            Self::Flag(flag) => CstInputValue::Bool(*flag),
            Self::List(items) => {
                CstInputValue::Array(items.iter().cloned().map(CstInputValue::String).collect())
            }
            Self::Table(members) => CstInputValue::Object(
                members
                    .iter()
                    .map(|(name, member)| ((*name).to_owned(), member.input()))
                    .collect(),
            ),
        }
    }
}

impl Entry {
    /// Members of the other way, which a host would stumble over.
    pub(crate) fn obsolete(&self) -> impl Iterator<Item = &'static str> {
        let starts = self.members.iter().any(|(name, _)| *name == "command");
        let other = if starts { OF_HTTP } else { OF_STDIO };
        other.iter().copied()
    }

    /// What the entry becomes, given what is there.
    ///
    /// # Errors
    /// When what is there is another server's.
    pub(crate) fn merged(&self, old: Option<&Value>) -> Result<Value, Refused> {
        let mut members = match old {
            None => Map::new(),
            Some(Value::Object(members)) if self.is_ours(members) => members.clone(),
            Some(_) => return Err(Refused::Taken(self.name.clone())),
        };
        for name in self.obsolete() {
            members.remove(name);
        }
        merge(&mut members, &self.members);
        Ok(Value::Object(members))
    }

    /// The whole document as it should be; what counts in the end, however the text is changed.
    ///
    /// # Errors
    /// When something else stands in the way.
    pub(crate) fn expected(&self, mut document: Value) -> Result<Value, Refused> {
        if !document.is_object() {
            return Err(Refused::Shape("content".to_owned()));
        }
        let mut at = &mut document;
        for key in self.place {
            let shape = || Refused::Shape(format!("`{key}`"));
            let members = at.as_object_mut().ok_or_else(shape)?;
            at = members.entry(*key).or_insert_with(|| json!({}));
        }
        let shape = || Refused::Shape(format!("`{}`", self.place.join(".")));
        let servers = at.as_object_mut().ok_or_else(shape)?;
        let entry = self.merged(servers.get(&self.name))?;
        servers.insert(self.name.clone(), entry);
        if let Some(input) = &self.input {
            let shape = || Refused::Shape("`inputs`".to_owned());
            let members = document.as_object_mut().ok_or_else(shape)?;
            let inputs = members.entry("inputs").or_insert_with(|| json!([]));
            let inputs = inputs.as_array_mut().ok_or_else(shape)?;
            if !inputs.iter().any(asks_for_the_key) {
                inputs.push(input.value());
            }
        }
        Ok(document)
    }

    /// Starts this program, names its key, or has its address: written by us or by hand for us.
    fn is_ours(&self, members: &Map<String, Value>) -> bool {
        let command = match members.get("command") {
            Some(Value::Array(words)) => words.first(),
            other => other,
        };
        let command = command.and_then(Value::as_str).unwrap_or_default();
        let program = command.rsplit(['/', '\\']).next().unwrap_or_default();
        let program = program.strip_suffix(".exe").unwrap_or(program);
        let text = Value::Object(members.clone()).to_string();
        let same_address = self.members.iter().any(|(name, member)| {
            name.ends_with("rl") && members.get(*name) == Some(&member.value())
        });
        program == PROGRAM
            || text.contains(TOKEN_VARIABLE)
            || text.contains(TOKEN_INPUT)
            || same_address
    }
}

/// Whether an input of VS Code is the one for the key.
pub(crate) fn asks_for_the_key(input: &Value) -> bool {
    input.get("id") == Some(&json!(TOKEN_INPUT))
}

fn merge(members: &mut Map<String, Value>, wanted: &[(&'static str, Member)]) {
    for (name, member) in wanted {
        match (members.get_mut(*name), member) {
            (Some(Value::Object(inner)), Member::Table(wanted)) => merge(inner, wanted),
            _ => {
                members.insert((*name).to_owned(), member.value());
            }
        }
    }
}
