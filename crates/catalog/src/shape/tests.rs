use proptest::prelude::*;

use super::*;

fn shape(schema: &str) -> String {
    of_schema(&Json::parse(schema).unwrap())
}

#[test]
fn the_example_of_the_grammar_is_written_as_it_stands_there() {
    let schema = r#"{"type":"object","properties":{
        "limit":{"type":"integer","minimum":1,"maximum":100,"default":10},
        "q":{"type":"string","minLength":1},
        "filter":{"type":"object","properties":{"field":{"type":"string"},"op":{"enum":["eq","lt"]},"v":{"type":["string","number"]}},"required":["field"]},
        "mode":{"type":"string","enum":["fast","deep"],"default":"fast"},
        "tags":{"type":"array","items":{"type":"string"},"maxItems":5},
        "since":{"type":"string","format":"date-time"},
        "meta":{"type":"object","additionalProperties":{"type":"string"}}},
        "required":["q","filter"]}"#;
    assert_eq!(
        shape(schema),
        r#"(q: string<1..>, filter: {field, op?: "eq"|"lt", v?: string|number}, limit?: int<1..100> = 10, mode?: "fast"|"deep" = "fast", tags?: string[]<..5>, since?: string<date-time>, meta?: {[k]: string})"#
    );
}

#[test]
fn every_form_has_its_notation() {
    for (property, written) in [
        (r#"{"type":"string"}"#, "(a?)"),
        ("{}", "(a?: any)"),
        ("true", "(a?: any)"),
        (r#"{"type":"object"}"#, "(a?: object)"),
        (
            r#"{"type":"object","additionalProperties":false}"#,
            "(a?: {})",
        ),
        (r#"{"type":"array"}"#, "(a?: any[])"),
        (
            r#"{"type":"array","items":{"enum":["a","b"]}}"#,
            r#"(a?: ("a"|"b")[])"#,
        ),
        (
            r#"{"type":"array","items":{"type":"array","items":{"type":"integer"}},"minItems":1}"#,
            "(a?: int[][]<1..>)",
        ),
        (
            r#"{"type":"array","prefixItems":[{"type":"string"},{"type":"number"}],"minItems":2,"maxItems":2}"#,
            "(a?: [string, number])",
        ),
        (
            r#"{"anyOf":[{"type":"string"},{"type":"null"}],"default":null}"#,
            "(a?: string|null = null)",
        ),
        (r#"{"type":"string","nullable":true}"#, "(a?: string|null)"),
        (r#"{"const":"x"}"#, r#"(a?: "x")"#),
        (
            r#"{"type":"number","exclusiveMinimum":0,"maximum":1.5,"multipleOf":0.5}"#,
            "(a?: number<..1.5 >0 %0.5>)",
        ),
        (
            r#"{"type":"string","pattern":"^[a-z]+$"}"#,
            "(a?: string</^[a-z]+$/>)",
        ),
        (
            r#"{"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991}"#,
            "(a?: int)",
        ),
        (r#"{"enum":[1,2,3,4,5,6,7,8,9,10]}"#, "(a?: 1|2|3|4|5|…5)"),
        (
            r#"{"type":"array","uniqueItems":true,"items":{"type":"string"}}"#,
            "(a?: string[])…",
        ),
        (
            r#"{"type":"string","default":"a default that is far too long to show"}"#,
            "(a?)…",
        ),
        (r#"{"type":"string","not":{"const":""}}"#, "(a?)…"),
    ] {
        let schema = format!(r#"{{"type":"object","properties":{{"a":{property}}}}}"#);
        assert_eq!(shape(&schema), written, "{property}");
    }
    assert_eq!(shape(r#"{"type":"object"}"#), "()");
    assert_eq!(shape(r#"{"type":"object","required":["x"]}"#), "(x: any)");
}

#[test]
fn references_are_expanded_all_of_is_merged_and_recursion_is_named() {
    let schema = r##"{"type":"object","required":["n"],"properties":{"n":{"$ref":"#/$defs/Node"},"m":{"allOf":[{"type":"object","properties":{"x":{"type":"string"}}},{"properties":{"y":{"type":"integer"}},"required":["y"]}]}},
        "$defs":{"Node":{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#/$defs/Node"}}}}}}"##;
    assert_eq!(shape(schema), "(n: {kids?: Node[]}, m?: {y: int, x?})");
}

#[test]
fn over_budget_it_drops_bounds_then_defaults_then_nested_then_enums_then_optional() {
    let parts = r#""i":{"type":"integer","minimum":1000000,"maximum":2000000,"default":1500000},"o":{"type":"object","properties":{"alpha":{"type":"string"},"beta":{"type":"string"}}},"e":{"enum":["one","two","three"]}"#;
    let tail = |length: usize| {
        let name = "x".repeat(length);
        let written = shape(&format!(
            r#"{{"properties":{{{parts},"{name}":{{"type":"string"}}}},"required":["{name}"]}}"#
        ));
        assert!(written.chars().count() <= MAX_SHAPE_CHARS);
        written.trim_start_matches(['(', 'x', ',', ' ']).to_owned()
    };
    assert_eq!(
        [150, 165, 175, 187, 199, 220, 300].map(tail),
        [
            r#"i?: int<1000000..2000000> = 1500000, o?: {alpha?, beta?}, e?: "one"|"two"|"three")"#,
            r#"i?: int = 1500000, o?: {alpha?, beta?}, e?: "one"|"two"|"three")…"#,
            r#"i?: int, o?: {alpha?, beta?}, e?: "one"|"two"|"three")…"#,
            r#"i?: int, o?: {…}, e?: "one"|"two"|"three")…"#,
            "i?: int, o?: {…}, e?: enum(3))…",
            "…3 optional)",
            "…",
        ]
    );
}

#[test]
fn names_and_values_cannot_hide_or_imitate_a_mark_of_loss() {
    let schema = "{\"properties\":{\"a b\":{\"type\":\"string\"},\"x\u{200b}\":{\"enum\":[\"\u{202e}e…\"]}}}";
    assert_eq!(shape(schema), r#"("a b"?, "x\u200b"?: "\u202ee\u2026")"#);
}

#[test]
fn prompt_arguments_are_strings() {
    let arguments = [("b".to_owned(), false), ("a".to_owned(), true)];
    assert_eq!(of_strings(&arguments), "(a, b?)");
}

fn schema() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(r#"{"type":"string","minLength":2}"#),
        Just(r#"{"type":"integer","minimum":0,"maximum":9,"default":4}"#),
        Just(r#"{"enum":["a","b","c","d","e","f","g","h","i","j"]}"#),
        Just(r##"{"$ref":"#"}"##),
        Just(r##"{"$ref":"#/nowhere"}"##),
        Just(r#"{"type":["string","null"],"enum":[]}"#),
        Just("{}"),
        Just("false"),
    ]
    .prop_map(|text| Json::parse(text).unwrap());
    leaf.prop_recursive(4, 48, 6, |inner| {
        let members = proptest::collection::vec(("[a-zé…\u{200b} ]{1,8}", inner.clone()), 0..6);
        prop_oneof![
            (members, any::<bool>()).prop_map(|(members, required)| object(members, required)),
            inner.clone().prop_map(|item| keyword("items", item)),
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|branches| keyword("anyOf", Json::Array(branches))),
            proptest::collection::vec(inner, 1..3)
                .prop_map(|parts| keyword("allOf", Json::Array(parts))),
        ]
    })
}

fn keyword(key: &str, value: Json) -> Json {
    Json::Object(vec![(key.to_owned(), value)])
}

fn object(members: Vec<(String, Json)>, required: bool) -> Json {
    let mut unique: Vec<(String, Json)> = Vec::new();
    for (name, schema) in members {
        if unique.iter().all(|(known, _)| *known != name) {
            unique.push((name, schema));
        }
    }
    let names = unique
        .iter()
        .map(|(name, _)| Json::String(name.clone()))
        .collect();
    let mut object = vec![
        ("type".to_owned(), Json::String("object".to_owned())),
        ("properties".to_owned(), Json::Object(unique)),
    ];
    if required {
        object.push(("required".to_owned(), Json::Array(names)));
    }
    Json::Object(object)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_schema_has_a_short_deterministic_one_line_shape(schema in schema()) {
        let written = of_schema(&schema);
        prop_assert!(written.chars().count() <= MAX_SHAPE_CHARS);
        prop_assert!(!written.contains('\n'));
        prop_assert_eq!(&written, &of_schema(&schema));
    }

    #[test]
    fn a_shape_without_a_mark_of_loss_names_every_property(schema in schema()) {
        let root = keyword("properties", keyword("root", schema));
        let written = of_schema(&root);
        if !written.contains('…') && !written.contains("enum(") {
            let mut names = Vec::new();
            property_names(&root, &mut names);
            for name in names {
                prop_assert!(written.contains(&literal::name(&name)), "{} in {} of {}", name, written, root.compact());
            }
        }
    }

    #[test]
    fn arbitrary_json_never_breaks_the_reader(text in "[\\{\\}\\[\\]\",:a-z0-9$#/]{0,40}") {
        if let Ok(json) = Json::parse(&text) {
            prop_assert!(of_schema(&json).chars().count() <= MAX_SHAPE_CHARS);
        }
    }
}

fn property_names(node: &Json, names: &mut Vec<String>) {
    if let Some(properties) = node.get("properties") {
        names.extend(properties.members().iter().map(|(name, _)| name.clone()));
    }
    for (_, value) in node.members() {
        property_names(value, names);
    }
    for item in node.items() {
        property_names(item, names);
    }
}
