use serde_json::value::RawValue;
use transports::ServerName;

use super::*;
use crate::listing::Listing;

fn raws(texts: &[&str]) -> Vec<Arc<RawValue>> {
    texts
        .iter()
        .map(|text| Arc::from(RawValue::from_string((*text).to_owned()).unwrap()))
        .collect()
}

fn snapshot(server: &str, tools: &[&str]) -> Arc<Snapshot> {
    let listing = Listing {
        tools: raws(tools),
        ..Listing::default()
    };
    Arc::new(Snapshot::build(&ServerName::new(server).unwrap(), &listing))
}

fn index() -> Index {
    Index::build(&[
        snapshot(
            "everything",
            &[
                r#"{"name":"get-sum","description":"Returns the sum of two numbers"}"#,
                r#"{"name":"echo","description":"Echoes back the input string"}"#,
            ],
        ),
        snapshot(
            "files",
            &[
                r#"{"name":"read_file","description":"Reads the contents of a file","inputSchema":{"properties":{"path":{"type":"string","description":"Where the document lies"}}}}"#,
                r#"{"name":"write_file","description":"Writes a file to disk, replacing it"}"#,
                r#"{"name":"moveFile","description":"Renames files; getSum of nothing"}"#,
            ],
        ),
        snapshot(
            "calendar",
            &[r#"{"name":"get-sum","description":"Sum of the hours booked in a week"}"#],
        ),
    ])
}

fn found(index: &Index, texts: &[&str]) -> Vec<String> {
    let query = Query {
        texts: texts.iter().map(|t| (*t).to_owned()).collect(),
        ..Query::default()
    };
    refs(&index.find(&query, &|_| true))
}

fn refs(ranked: &Ranked) -> Vec<String> {
    ranked
        .hits
        .iter()
        .map(|(entry, _)| entry.reference.to_string())
        .collect()
}

#[test]
fn a_tool_named_whole_comes_first() {
    let index = index();
    assert_eq!(
        found(&index, &["everything.get-sum"])[0],
        "everything.get-sum"
    );
    assert_eq!(
        found(&index, &["please use everything.getSum to add"])[0],
        "everything.get-sum"
    );
    assert!(found(&index, &["get sum"])[0].ends_with(".get-sum"));
    assert_eq!(found(&index, &["move file"])[0], "files.moveFile");
}

#[test]
fn forms_of_words_and_argument_descriptions_find_a_tool() {
    let index = index();
    assert_eq!(found(&index, &["reading documents"])[0], "files.read_file");
    assert_eq!(found(&index, &["add two numbers"])[0], "everything.get-sum");
}

#[test]
fn several_queries_each_bring_their_best() {
    let found = found(&index(), &["echo a string", "write something to disk"]);
    let mut top = found[..2].to_vec();
    top.sort();
    assert_eq!(top, ["everything.echo", "files.write_file"]);
}

#[test]
fn scores_fall_and_stay_in_range_and_the_order_is_the_same_each_time() {
    let query = Query {
        texts: vec!["file sum".to_owned(), "string".to_owned()],
        ..Query::default()
    };
    let ranked = index().find(&query, &|_| true);
    let scores: Vec<f32> = ranked.hits.iter().filter_map(|hit| hit.1).collect();
    assert_eq!(scores.len(), ranked.hits.len());
    assert!(scores.iter().all(|score| *score > 0.0 && *score <= 1.0));
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]));
    assert_eq!(refs(&ranked), refs(&index().find(&query, &|_| true)));
}

#[test]
fn what_is_not_visible_is_neither_ranked_nor_suggested() {
    let index = index();
    let visible = |entry: &Entry| entry.reference.server.as_str() != "everything";
    let query = Query {
        texts: vec!["everything.get-sum".to_owned()],
        ..Query::default()
    };
    let ranked = index.find(&query, &visible);
    assert!(refs(&ranked).iter().all(|r| !r.starts_with("everything")));
    assert_eq!(
        index.near(Kind::Tool, "everything.ecko", 3, &visible),
        Vec::<String>::new()
    );
}

#[test]
fn nothing_fits_is_said_instead_of_filling_up() {
    let index = index();
    for query in ["zebra quantum", "what is it"] {
        let ranked = index.find(
            &Query {
                texts: vec![query.to_owned()],
                ..Query::default()
            },
            &|_| true,
        );
        assert!(ranked.nothing_fits && ranked.hits.is_empty(), "{query}");
    }
}

#[test]
fn no_query_lists_by_kind_and_ref_and_filters_hold() {
    let index = index();
    let all = index.find(
        &Query {
            texts: vec!["  ".to_owned()],
            ..Query::default()
        },
        &|_| true,
    );
    assert_eq!(
        refs(&all),
        [
            "calendar.get-sum",
            "everything.echo",
            "everything.get-sum",
            "files.moveFile",
            "files.read_file",
            "files.write_file",
        ]
    );
    assert!(all.hits.iter().all(|hit| hit.1.is_none()));
    let files = Query {
        server: Some("files".to_owned()),
        kinds: vec![Kind::Tool],
        ..Query::default()
    };
    assert_eq!(index.find(&files, &|_| true).hits.len(), 3);
    let prompts = Query {
        kinds: vec![Kind::Prompt],
        ..Query::default()
    };
    assert!(index.find(&prompts, &|_| true).hits.is_empty());
}

#[test]
fn the_catalogue_hash_knows_no_order_of_servers_but_every_definition() {
    let a = snapshot("a", &[r#"{"name":"x"}"#, r#"{"name":"y"}"#]);
    let b = snapshot("b", &[r#"{"name":"x"}"#]);
    let changed = snapshot("b", &[r#"{"name":"x","description":"new"}"#]);
    let hash = |snapshots: &[&Arc<Snapshot>]| {
        Index::build(&snapshots.iter().map(|s| Arc::clone(s)).collect::<Vec<_>>()).hash()
    };
    assert_eq!(hash(&[&a, &b]), hash(&[&b, &a]));
    assert_ne!(hash(&[&a, &b]), hash(&[&a, &changed]));
    assert_ne!(hash(&[&a, &b]), hash(&[&a]));
}

#[test]
fn an_entry_is_found_by_kind_and_ref() {
    let index = index();
    let reference = Ref::parse("files.read_file").unwrap();
    assert_eq!(
        index.get(Kind::Tool, &reference).unwrap().reference,
        reference
    );
    assert!(index.get(Kind::Prompt, &reference).is_none());
    assert!(
        index
            .get(Kind::Tool, &Ref::parse("files.gone").unwrap())
            .is_none()
    );
}

#[test]
fn a_wrong_ref_brings_the_closest_ones() {
    let index = index();
    let near = |wrong: &str| index.near(Kind::Tool, wrong, 3, &|_| true);
    assert_eq!(near("files.raed_file")[0], "files.read_file");
    assert_eq!(near("everything.get_sum")[0], "everything.get-sum");
    assert_eq!(near("evrything.ecko")[0], "everything.echo");
    assert_eq!(near("read-file")[0], "files.read_file");
    assert_eq!(near("file.sum_get")[0].split('.').nth(1), Some("get-sum"));
    assert_eq!(near("nothing.like-any-of-these"), Vec::<String>::new());
    assert_eq!(near(&"x".repeat(100_000)), Vec::<String>::new());
}

#[test]
fn a_huge_query_is_cut_and_answered() {
    let ranked = index().find(
        &Query {
            texts: vec!["file ".repeat(100_000); 200],
            ..Query::default()
        },
        &|_| true,
    );
    assert!(!ranked.nothing_fits);
}
