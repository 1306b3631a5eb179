//! Reads a schema as a signature: what each property may be, and whether anything could not be said.

use crate::json::Json;
use crate::schema::{self, Document, merge, reference, without};
use crate::shape::limits;
use crate::shape::literal;
use crate::shape::model::{Alt, Field, Form, Type};

/// Nesting looked at; the same bound a schema has that may be called.
pub(super) const MAX_DEPTH: usize = 64;

/// Longest default shown, in characters.
const MAX_DEFAULT_CHARS: usize = 24;

/// The fields of a schema's root, and whether anything could not be said.
pub(super) fn of_root(schema: &Json) -> (Vec<Field>, bool) {
    let mut reader = Reader {
        document: Document::new(schema),
        open: Vec::new(),
        nodes: 0,
        depth: 0,
        lost: false,
    };
    let fields = reader.root(schema);
    (fields, reader.lost)
}

pub(super) struct Reader<'a> {
    pub(super) document: Document<'a>,
    /// References being expanded.
    pub(super) open: Vec<String>,
    pub(super) nodes: usize,
    pub(super) depth: usize,
    /// A constraint or default could not be said.
    pub(super) lost: bool,
}

impl Reader<'_> {
    fn root(&mut self, schema: &Json) -> Vec<Field> {
        let node = self.flat(schema);
        self.note_unsaid(&node);
        if limits::of_object(&node).is_some() {
            self.lost = true;
        }
        let Some(branches) = ["anyOf", "oneOf"].iter().find_map(|key| node.get(key)) else {
            return self.fields(&node);
        };
        // A signature has one list of arguments: those of all branches, required where every branch says so.
        self.lost = true;
        let mut all = self.fields(&node);
        for branch in branches.items() {
            let branch = self.flat(branch);
            for mut field in self.fields(&branch) {
                field.required = false;
                if branch.get("properties").is_some() && all.iter().all(|f| f.name != field.name) {
                    all.push(field);
                }
            }
        }
        all
    }

    fn fields(&mut self, node: &Json) -> Vec<Field> {
        let required: Vec<&str> = node
            .get("required")
            .map(Json::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Json::as_str)
            .collect();
        let properties = node
            .get("properties")
            .map(Json::members)
            .unwrap_or_default();
        let mut fields: Vec<Field> = properties
            .iter()
            .map(|(name, schema)| self.field(name, schema, required.contains(&name.as_str())))
            .collect();
        for name in required {
            if fields.iter().all(|field| field.name != name) {
                fields.push(Field {
                    name: name.to_owned(),
                    required: true,
                    kind: Type::of(Form::Plain("any")),
                    default: None,
                });
            }
        }
        fields.sort_by_key(|field| !field.required);
        fields
    }

    fn field(&mut self, name: &str, schema: &Json, required: bool) -> Field {
        let kind = self.kind(schema);
        let default = schema
            .get("default")
            .or_else(|| self.document.resolve(reference(schema)?)?.get("default"));
        let default = default.map(literal::of);
        let fits = |text: &String| text.chars().count() <= MAX_DEFAULT_CHARS;
        self.lost |= default.as_ref().is_some_and(|text| !fits(text));
        Field {
            name: name.to_owned(),
            required,
            kind,
            default: default.filter(fits),
        }
    }

    fn kind(&mut self, schema: &Json) -> Type {
        if !self.spend() || self.depth >= MAX_DEPTH {
            return Type::of(Form::Elided);
        }
        if let Some(target) = reference(schema).map(str::to_owned) {
            if self.open.contains(&target) {
                return Type::of(Form::Again(schema::reference_name(&target)));
            }
            self.open.push(target);
            let kind = self.deeper(schema);
            self.open.pop();
            return kind;
        }
        self.deeper(schema)
    }

    fn deeper(&mut self, schema: &Json) -> Type {
        self.depth += 1;
        let chained = self.open.len();
        self.open_chain(schema);
        let node = self.flat(schema);
        let kind = self.alternatives(&node);
        self.open.truncate(chained);
        self.depth -= 1;
        kind
    }

    fn alternatives(&mut self, node: &Json) -> Type {
        self.note_unsaid(node);
        let Some((key, branches)) = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| Some((*key, node.get(key)?)))
        else {
            return self.single(node);
        };
        let base = without(node, key);
        let refines = branches.items().iter().all(|branch| !says_type(branch));
        if branches.items().is_empty() || refines {
            self.lost = true;
            return self.single(&base);
        }
        let says_nothing_more = base
            .members()
            .iter()
            .all(|(key, _)| schema::is_annotation(key) || key == "default" || key == "type");
        let mut alts = Vec::new();
        for branch in branches.items() {
            let part = if says_nothing_more && says_type(branch) {
                self.kind(branch)
            } else {
                let branch = self.flat(branch);
                let (both, lost) = merge(&without(&base, "type"), &branch);
                self.lost |= lost;
                self.kind(&both)
            };
            alts.extend(part.0);
        }
        Type(alts)
    }

    fn single(&mut self, node: &Json) -> Type {
        let literals = node.get("const").map(std::slice::from_ref);
        let values = literals.or_else(|| node.get("enum").map(Json::items));
        if let Some(values) = values.filter(|values| !values.is_empty()) {
            self.lost |= ["properties", "items"]
                .iter()
                .any(|key| node.get(key).is_some());
            let mut shown: Vec<String> = Vec::new();
            for value in values.iter().map(literal::of) {
                if !shown.contains(&value) {
                    shown.push(value);
                }
            }
            return nullable(node, Type::of(Form::Enum(shown)));
        }
        let names: Vec<&str> = match node.get("type") {
            Some(Json::String(name)) => vec![name],
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
            _ => vec![implied_type(node)],
        };
        // Keywords of a type the value cannot have say nothing, but were surely meant to.
        self.lost |= (node.get("properties").is_some() && !names.contains(&"object"))
            || (node.get("items").is_some() && !names.contains(&"array"));
        let alts = names.iter().map(|name| self.named(name, node)).collect();
        nullable(node, Type(alts))
    }

    fn named(&mut self, name: &str, node: &Json) -> Alt {
        let (form, bounds) = match name {
            "string" => (Form::Plain("string"), limits::of_string(node)),
            "integer" => (Form::Plain("int"), limits::of_number(node)),
            "number" => (Form::Plain("number"), limits::of_number(node)),
            "boolean" => (Form::Plain("bool"), None),
            "null" => (Form::Plain("null"), None),
            "object" => (self.object(node), limits::of_object(node)),
            "array" => (self.array(node), limits::of_array(node)),
            "any" => {
                self.lost |= limits::any(node);
                (Form::Plain("any"), None)
            }
            _ => {
                self.lost = true;
                (Form::Plain("any"), None)
            }
        };
        Alt {
            form,
            bounds: bounds.unwrap_or_default(),
        }
    }

    fn object(&mut self, node: &Json) -> Form {
        let fields = self.fields(node);
        let rest = node.get("additionalProperties");
        let map = rest.filter(|rest| !rest.members().is_empty());
        if fields.is_empty() {
            return match (map, rest) {
                (Some(map), _) => Form::Map(Box::new(self.kind(map))),
                (None, Some(Json::Bool(false))) => Form::Fields(Vec::new()),
                _ => Form::Plain("object"),
            };
        }
        self.lost |= map.is_some();
        Form::Fields(fields)
    }

    fn array(&mut self, node: &Json) -> Form {
        let tuple = node.get("prefixItems").or_else(|| {
            node.get("items")
                .filter(|items| matches!(items, Json::Array(_)))
        });
        if let Some(tuple) = tuple.filter(|tuple| !tuple.items().is_empty()) {
            let rest = ["items", "additionalItems"]
                .iter()
                .filter_map(|key| node.get(key))
                .any(|rest| matches!(rest, Json::Object(_)));
            self.lost |= rest;
            return Form::Tuple(tuple.items().iter().map(|item| self.kind(item)).collect());
        }
        match node.get("items") {
            Some(items @ Json::Object(_)) => Form::Array(Box::new(self.kind(items))),
            _ => Form::Array(Box::new(Type::of(Form::Plain("any")))),
        }
    }

    /// Notes keywords the notation has no words for.
    fn note_unsaid(&mut self, node: &Json) {
        const UNSAID: [&str; 12] = [
            "if",
            "then",
            "else",
            "not",
            "dependencies",
            "dependentRequired",
            "dependentSchemas",
            "patternProperties",
            "contains",
            "propertyNames",
            "minContains",
            "maxContains",
        ];
        let unevaluated = ["unevaluatedProperties", "unevaluatedItems"];
        self.lost |= UNSAID.iter().any(|key| node.get(key).is_some())
            || node.get("uniqueItems").is_some_and(Json::is_true)
            || unevaluated
                .iter()
                .any(|key| matches!(node.get(key), Some(Json::Object(_))))
            || (node.get("anyOf").is_some() && node.get("oneOf").is_some())
            || *node == Json::Bool(false);
    }
}

/// Whether a branch says by itself what the value is, and not only more about it.
fn says_type(branch: &Json) -> bool {
    [
        "type",
        "properties",
        "enum",
        "const",
        "$ref",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
    ]
    .iter()
    .any(|key| branch.get(key).is_some())
        || matches!(branch, Json::Bool(_))
        || branch.members().is_empty()
}

fn implied_type(node: &Json) -> &'static str {
    let has = |key: &str| node.get(key).is_some();
    if has("properties")
        || node
            .get("additionalProperties")
            .is_some_and(|rest| !rest.members().is_empty())
    {
        "object"
    } else if has("items") || has("prefixItems") {
        "array"
    } else {
        "any"
    }
}

/// The type, with null where the node allows it, and never without an alternative.
fn nullable(node: &Json, mut kind: Type) -> Type {
    if node.get("nullable").is_some_and(Json::is_true) {
        kind.0.extend(Type::of(Form::Plain("null")).0);
    }
    if kind.0.is_empty() {
        kind = Type::of(Form::Plain("any"));
    }
    kind
}
