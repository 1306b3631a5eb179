//! What a schema means as a signature, before any of it is left out. Knows no budget and no notation.

use crate::json::Json;
use crate::schema::{self, Document, merge, reference, without};
use crate::shape::limits;
use crate::shape::literal;

/// Subschemas looked at for one shape: more than 240 characters can show, few enough for 50,000 tools.
const MAX_NODES: usize = 500;

/// Nesting looked at; the same bound a schema has that may be called.
const MAX_DEPTH: usize = 64;

/// Longest default shown, in characters.
const MAX_DEFAULT_CHARS: usize = 24;

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

struct Reader<'a> {
    document: Document<'a>,
    /// References being expanded.
    open: Vec<String>,
    nodes: usize,
    depth: usize,
    /// A constraint or default could not be said.
    lost: bool,
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

    /// The node with its references and `allOf` put in place, one level deep.
    fn flat(&mut self, node: &Json) -> Json {
        let mut flat = node.clone();
        loop {
            let next = if let Some(target) = reference(&flat).map(str::to_owned) {
                Some(self.with_target(&flat, &target))
            } else if let Some(parts) = flat.get("allOf").cloned() {
                Some(self.with_parts(&flat, parts.items()))
            } else {
                None
            };
            match next {
                None => return flat,
                Some(next) if self.spend() => flat = next,
                // A schema this tangled is over its bounds elsewhere; here it only has to end.
                Some(_) => {
                    self.lost = true;
                    return without(&without_references(&flat), "allOf");
                }
            }
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
    fn spend(&mut self) -> bool {
        self.nodes += 1;
        self.nodes <= MAX_NODES
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

    /// References a node reaches through other references or `allOf` are open inside it too.
    fn open_chain(&mut self, schema: &Json) {
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
        let bare = base
            .members()
            .iter()
            .all(|(key, _)| schema::is_annotation(key) || key == "default" || key == "type");
        let mut alts = Vec::new();
        for branch in branches.items() {
            let part = if bare && says_type(branch) {
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
        if let Some(values) = literals.or_else(|| node.get("enum").map(Json::items)) {
            if !values.is_empty() {
                self.lost |= ["properties", "items"]
                    .iter()
                    .any(|key| node.get(key).is_some());
                let mut shown: Vec<String> = Vec::new();
                for value in values.iter().map(literal::of) {
                    if !shown.contains(&value) {
                        shown.push(value);
                    }
                }
                return self.nullable(
                    node,
                    vec![Alt {
                        form: Form::Enum(shown),
                        bounds: String::new(),
                    }],
                );
            }
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
        self.nullable(node, alts)
    }

    fn nullable(&mut self, node: &Json, mut alts: Vec<Alt>) -> Type {
        if node.get("nullable").is_some_and(Json::is_true) {
            alts.push(Alt {
                form: Form::Plain("null"),
                bounds: String::new(),
            });
        }
        if alts.is_empty() {
            alts.push(Alt {
                form: Form::Plain("any"),
                bounds: String::new(),
            });
        }
        Type(alts)
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

fn without_references(node: &Json) -> Json {
    let bare = without(node, "$ref");
    without(&without(&bare, "$dynamicRef"), "$recursiveRef")
}
