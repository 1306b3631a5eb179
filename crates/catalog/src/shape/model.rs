//! A signature before any of it is left out: fields, alternatives, bounds. Knows no budget and no notation.

/// One argument or property.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) kind: Type,
    pub(super) default: Option<String>,
}

/// Alternatives; never empty.
#[derive(Debug, Clone)]
pub(super) struct Type(pub(super) Vec<Alt>);

/// One alternative with its bounds.
#[derive(Debug, Clone)]
pub(super) struct Alt {
    pub(super) form: Form,
    pub(super) bounds: String,
}

/// What an alternative is.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Plain(&'static str),
    Enum(Vec<String>),
    Fields(Vec<Field>),
    Map(Box<Type>),
    Tuple(Vec<Type>),
    Array(Box<Type>),
    Again(String),
    Elided,
}

impl Type {
    pub(super) fn of(form: Form) -> Self {
        Self(vec![Alt {
            form,
            bounds: String::new(),
        }])
    }
}
