use serde_json::value::RawValue;

use super::*;

fn raw(text: &str) -> Arc<RawValue> {
    Arc::from(RawValue::from_string(text.to_owned()).unwrap())
}

fn build(tools: &[&str]) -> Snapshot {
    let listing = Listing {
        tools: tools.iter().map(|text| raw(text)).collect(),
        ..Listing::default()
    };
    Snapshot::build(&ServerName::new("s").unwrap(), &listing)
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .entries
        .iter()
        .map(|entry| entry.reference.to_string())
        .collect()
}

#[test]
fn the_servers_own_order_is_remembered_also_by_the_store() {
    let snapshot = build(&[
        r#"{"name":"b"}"#,
        r#"{"name":"a"}"#,
        r#"{"name":"b"}"#,
        r#"{"name":"c"}"#,
    ]);
    let listed = |snapshot: &Snapshot| -> Vec<String> {
        let entries = snapshot.as_listed();
        entries.map(|entry| entry.reference.to_string()).collect()
    };
    assert_eq!(names(&snapshot), ["s.a", "s.b", "s.c"]);
    assert_eq!(listed(&snapshot), ["s.b", "s.a", "s.c"]);
    let kept = Snapshot::build(&snapshot.server, &snapshot.to_listing());
    assert_eq!(listed(&kept), listed(&snapshot));
}

#[test]
fn one_entry_shows_its_compact_form() {
    let snapshot = build(&[
        r#"{"name":"find","title":" The\u200b title ","description":"Finds things. And more.",
            "inputSchema":{"type":"object","required":["q"],"properties":{"limit":{"type":"integer","default":10},"q":{"type":"string"}}},
            "annotations":{"readOnlyHint":true,"openWorldHint":false,"destructiveHint":"no"}}"#,
    ]);
    let entry = &snapshot.entries[0];
    insta::assert_snapshot!(
        format!(
            "{} | {:?} | {} | {} | {} | flagged={} | {:?}",
            entry.reference, entry.title, entry.summary, entry.shape, entry.hash.short(), entry.flagged, entry.hints
        ),
        @r#"s.find | Some("The title") | Finds things. | (q, limit?: int = 10) | 90a75e4634ea | flagged=true | Hints { read_only: true, destructive: true, idempotent: false, open_world: false }"#
    );
    assert_eq!(entry.description(), "Finds things. And more.");
    assert_eq!(
        entry.example_arguments().unwrap().get(),
        r#"{"q":"example"}"#
    );
    assert!(
        entry
            .input_schema()
            .unwrap()
            .get()
            .starts_with(r#"{"type":"object","required""#)
    );
    assert!(entry.output_schema().is_none());
}

#[test]
fn broken_definitions_hurt_only_themselves() {
    let deep = format!(
        r#"{{"name":"deep","inputSchema":{}{}}}"#,
        r#"{"not":"#.repeat(300),
        "{}".to_owned() + &"}".repeat(300)
    );
    let snapshot = build(&[
        r#"{"description":"no name"}"#,
        r#"{"name":""}"#,
        r#"{"name":"line\nbreak"}"#,
        r#"{"name":7}"#,
        r#"["array"]"#,
        r#"{"name":"twice","description":"A.","inputSchema":{"type":"object","type":"string"}}"#,
        r#"{"name":"remote","inputSchema":{"$ref":"http://127.0.0.1:9/s.json"}}"#,
        r#"{"name":"text","inputSchema":"object"}"#,
        r#"{"name":"huge","inputSchema":{"maximum":1e999}}"#,
        &deep,
        r#"{"name":"good","inputSchema":{"type":"object"}}"#,
        r#"{"name":"good","description":"a second of that name"}"#,
        r#"{"name":"bare"}"#,
    ]);
    assert_eq!(
        names(&snapshot),
        [
            "s.bare", "s.deep", "s.good", "s.huge", "s.remote", "s.text", "s.twice"
        ]
    );
    assert_eq!(snapshot.left_out, 6);
    for entry in &snapshot.entries {
        let supported = matches!(&*entry.reference.name, "bare" | "good");
        assert_eq!(
            entry.unsupported_schema.is_none(),
            supported,
            "{}",
            entry.reference
        );
        assert_eq!(entry.shape, if supported { "()" } else { "(…)" });
    }
    assert_eq!(snapshot.entries[6].summary, "A.");
    assert_eq!(snapshot.entries[2].summary, "");
}

#[test]
fn every_kind_has_its_ref_and_shape() {
    let listing = Listing {
        tools: vec![raw(r#"{"name":"a.b","inputSchema":{"type":"object"}}"#)],
        resources: vec![raw(
            r#"{"uri":"file:///x","name":"X","description":"A file."}"#,
        )],
        templates: vec![raw(
            r#"{"uriTemplate":"db://{table}/{+id}{?limit,after*}","name":"Row"}"#,
        )],
        prompts: vec![raw(
            r#"{"name":"p","arguments":[{"name":"o"},{"name":"r","required":true}]}"#,
        )],
        ..Listing::default()
    };
    let snapshot = Snapshot::build(&ServerName::new("s").unwrap(), &listing);
    let shown: Vec<String> = snapshot
        .entries
        .iter()
        .map(|e| {
            format!(
                "{:?} {} {} {}",
                e.kind,
                e.reference,
                e.title.as_deref().unwrap_or("-"),
                e.shape
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "Tool s.a.b - ()",
            "Resource s.file:///x X ",
            "Template s.db://{table}/{+id}{?limit,after*} Row (table, id, limit?, after?)",
            "Prompt s.p - (r, o?)",
        ]
    );
    assert_eq!(
        snapshot.entries[3].example_arguments().unwrap().get(),
        r#"{"r":"example"}"#
    );
}

#[test]
fn hidden_characters_anywhere_in_a_definition_flag_it() {
    for (tool, flagged) in [
        (r#"{"name":"a","description":"plain\nlines"}"#, false),
        (r#"{"name":"a","description":"x\u202ey"}"#, true),
        (r#"{"name":"a\u200b"}"#, true),
        (
            r#"{"name":"a","inputSchema":{"properties":{"b\u2066":{}}}}"#,
            true,
        ),
        (
            r#"{"name":"a","inputSchema":{"properties":{"b":{"description":"\udb40\udc41"}}}}"#,
            true,
        ),
    ] {
        assert_eq!(build(&[tool]).entries[0].flagged, flagged, "{tool}");
    }
}

#[test]
fn order_of_the_list_changes_nothing_and_a_kept_listing_builds_the_same() {
    let tools = [
        r#"{"name":"b","x":1}"#,
        r#"{"name":"a","inputSchema":{"type":"object"}}"#,
        "7",
    ];
    let snapshot = build(&tools);
    let turned = build(&[tools[1], tools[2], tools[0]]);
    assert_eq!(snapshot.hash, turned.hash);
    let again = Snapshot::build(&snapshot.server, &snapshot.to_listing());
    assert_eq!(format!("{again:?}"), format!("{snapshot:?}"));
    assert_eq!(again.left_out, 1);
}

#[test]
fn a_delta_names_what_was_added_changed_and_removed() {
    let old = build(&[
        r#"{"name":"a"}"#,
        r#"{"name":"b"}"#,
        r#"{"name":"c"}"#,
        r#"{"name":"z"}"#,
    ]);
    let new = build(&[
        r#"{"name":"b","description":"now"}"#,
        r#"{ "name": "c" }"#,
        r#"{"name":"d"}"#,
    ]);
    assert_eq!(
        new.delta_since(&old),
        Delta {
            added: vec!["s.d".to_owned()],
            changed: vec!["s.b".to_owned()],
            removed: vec!["s.a".to_owned(), "s.z".to_owned()],
        }
    );
    assert_eq!(new.delta_since(&new), Delta::default());
}
