use proptest::prelude::*;
use serde_json::json;
use sessions::{UserId, WorkspaceId};

use super::*;
use crate::principal::Scopes;

fn who(roles: &[Role], scopes: &[&str]) -> Principal {
    let workspace = WorkspaceId::new("default").unwrap();
    Principal {
        user: UserId::new("u").unwrap(),
        workspace: workspace.clone(),
        workspaces: vec![workspace],
        roles: roles.to_vec(),
        key_id: "k".to_owned(),
        scopes: Scopes(scopes.iter().map(|s| (*s).to_owned()).collect()),
        expires_at: None,
    }
}

fn policy(roles: Value) -> Policy {
    Policy::new(serde_json::from_value(roles).unwrap()).unwrap()
}

fn hints(read_only: bool) -> Hints {
    Hints {
        read_only,
        ..Hints::default()
    }
}

fn said(
    policy: &Policy,
    who: &Principal,
    (reference, hints): (&str, Hints),
    arguments: &Value,
) -> Verdict {
    let reference = Ref::parse(reference).unwrap();
    policy.decide(
        who,
        Subject {
            reference: &reference,
            hints,
            arguments: Some(arguments),
        },
    )
}

fn call(who: &Principal, read_only: bool) -> Decision {
    let verdict = said(
        &Policy::default(),
        who,
        ("git.log.all", hints(read_only)),
        &json!({}),
    );
    verdict.decision
}

#[test]
fn without_a_rule_writing_is_for_operators_and_admins() {
    for (role, read, write) in [
        (Role::Viewer, Decision::Allow, Decision::Deny),
        (Role::Approver, Decision::Deny, Decision::Deny),
        (Role::Operator, Decision::Allow, Decision::Allow),
        (Role::Admin, Decision::Allow, Decision::Allow),
    ] {
        let who = who(&[role], &[]);
        assert_eq!((call(&who, true), call(&who, false)), (read, write));
    }
}

#[test]
fn a_scope_hides_what_it_does_not_name_and_never_widens_a_role() {
    let policy = Policy::default();
    let operator = |scopes: &[&str]| who(&[Role::Operator], scopes);
    assert_eq!(call(&operator(&["git.*"]), false), Decision::Allow);
    assert_eq!(call(&operator(&["g*.l*.a*l"]), false), Decision::Allow);
    assert_eq!(
        call(&operator(&["hub.*", "git.commit"]), false),
        Decision::Hide
    );
    assert_eq!(call(&operator(&["read_only"]), false), Decision::Deny);
    let viewer = |scopes: &[&str]| who(&[Role::Viewer], scopes);
    assert_eq!(call(&viewer(&["git.*"]), false), Decision::Deny);
    assert!(policy.sees_server(&viewer(&["git.log"]), "git"));
    assert!(!policy.sees_server(&viewer(&["git.log"]), "hub"));
    assert!(require_admin(&who(&[Role::Admin], &["git.*"])).is_err());
    assert!(require_admin(&who(&[Role::Admin], &["manage"])).is_ok());
}

#[test]
fn the_example_of_the_contract_means_what_it_says() {
    let policy = policy(json!({
        "viewer": {"allow": ["*.*"], "only": "read_only"},
        "operator": {"allow": ["*.*"], "confirm": "destructive"},
    }));
    let gentle = Hints {
        destructive: false,
        ..hints(false)
    };
    for (role, of, decision) in [
        (Role::Viewer, hints(true), Decision::Allow),
        (Role::Viewer, hints(false), Decision::Deny),
        (Role::Operator, hints(true), Decision::Allow),
        (Role::Operator, gentle, Decision::Allow),
        (Role::Operator, hints(false), Decision::Confirm),
        // An admin's own calls obey the gates too.
        (Role::Admin, hints(false), Decision::Confirm),
    ] {
        let verdict = said(&policy, &who(&[role], &[]), ("git.push", of), &json!({}));
        assert_eq!(
            verdict.decision, decision,
            "{role} {of:?} {}",
            verdict.because
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn conditions_narrow_by_arguments_and_what_cannot_be_compared_counts_against_the_caller() {
    let policy = policy(json!({"operator": {
        "allow": ["bank.*"],
        "rules": [
            {"tools": ["bank.pay"], "when": [{"arg": "/amount", "op": "gt", "value": 100}], "decision": "confirm"},
            {"tools": ["bank.pay"], "when": [{"arg": "/to", "op": "like", "value": "evil*"}], "decision": "deny"},
            {"tools": ["shop.buy"], "when": [{"arg": "/price", "op": "le", "value": 5}], "decision": "allow"},
        ],
    }}));
    let who = who(&[Role::Operator], &[]);
    let decided = |reference: &str, arguments: Value| {
        let verdict = said(&policy, &who, (reference, hints(false)), &arguments);
        (verdict.decision, verdict.because.to_string())
    };
    let says = |decision, because: &str| (decision, because.to_owned());
    for (reference, arguments, expected) in [
        (
            "bank.pay",
            json!({"amount": 7, "to": "ann"}),
            says(Decision::Allow, "roles.operator.allow[0]"),
        ),
        (
            "bank.pay",
            json!({"amount": 700, "to": "ann"}),
            says(Decision::Confirm, "roles.operator.rules[0]"),
        ),
        (
            "bank.pay",
            json!({"amount": "7", "to": "ann"}),
            says(Decision::Confirm, "roles.operator.rules[0]"),
        ),
        (
            "bank.pay",
            json!({"amount": 700, "to": "evil corp"}),
            says(Decision::Deny, "roles.operator.rules[1]"),
        ),
        (
            "bank.pay",
            json!({"amount": 7}),
            says(Decision::Deny, "roles.operator.rules[1]"),
        ),
        (
            "shop.buy",
            json!({"price": 5}),
            says(Decision::Allow, "roles.operator.rules[2]"),
        ),
        (
            "shop.buy",
            json!({"price": 6}),
            says(Decision::Deny, "no role of the caller allows it"),
        ),
        (
            "shop.buy",
            json!({}),
            says(Decision::Deny, "no role of the caller allows it"),
        ),
    ] {
        assert_eq!(
            decided(reference, arguments.clone()),
            expected,
            "{reference} {arguments}"
        );
    }
    // Listed all the same: some arguments are allowed.
    for (reference, shown) in [("bank.pay", true), ("shop.buy", true), ("shop.sell", false)] {
        let reference = Ref::parse(reference).unwrap();
        assert_eq!(
            policy.shows(&who, &reference, hints(false)),
            shown,
            "{reference}"
        );
    }
}

#[test]
fn only_allow_opens_and_confirming_by_oneself_needs_every_role_that_asks() {
    let policy = policy(json!({
        "operator": {"allow": ["git.*"], "confirm": "not_read_only", "self_confirm": true, "require_idempotency_key": true},
        "careful": {"confirm": ["git.push"]},
        "viewer": {"hide": ["bank.*"], "allow": ["*.*"], "only": "read_only"},
    }));
    let careful = Role::named("careful").unwrap();
    let decided = |roles: &[Role], reference: &str| {
        let verdict = said(
            &policy,
            &who(roles, &[]),
            (reference, hints(false)),
            &json!({}),
        );
        (verdict.decision, verdict.self_confirm, verdict.needs_key)
    };
    assert_eq!(
        decided(&[careful], "git.push"),
        (Decision::Deny, false, false)
    );
    assert_eq!(
        decided(&[Role::Operator], "git.push"),
        (Decision::Confirm, true, true)
    );
    assert_eq!(
        decided(&[Role::Operator, careful], "git.push"),
        (Decision::Confirm, false, true)
    );
    assert_eq!(decided(&[Role::Operator], "hub.push").0, Decision::Deny);
    assert_eq!(
        decided(&[Role::Viewer, Role::Admin], "bank.pay").0,
        Decision::Hide
    );
    assert!(!policy.sees_server(&who(&[Role::Viewer, Role::Admin], &[]), "bank"));
    assert!(!policy.may_read(&who(&[careful], &[]), "git"));
    assert!(policy.may_read(&who(&[Role::Operator], &[]), "git"));
}

#[test]
fn bad_rules_are_refused_with_their_place() {
    for (roles, place) in [
        (json!({"no role": {}}), "/no role"),
        (
            json!({"operator": {"rules": [{"tools": [], "decision": "deny"}]}}),
            "/operator/rules/0/tools",
        ),
        (
            json!({"operator": {"rules": [{"tools": ["a.b"], "decision": "hide",
                "when": [{"arg": "/a", "op": "eq", "value": 1}]}]}}),
            "/operator/rules/0/when",
        ),
        (
            json!({"operator": {"allow": vec!["a.b"; 65]}}),
            "/operator/allow",
        ),
    ] {
        let error = Policy::new(serde_json::from_value(roles).unwrap()).unwrap_err();
        assert_eq!(error.pointer, place);
    }
}

fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Allow => 0,
        Decision::Confirm => 1,
        Decision::Deny => 2,
        Decision::Hide => 3,
    }
}

/// A rule about one of few tools and one of few numbers, so that rules meet.
fn rule() -> impl Strategy<Value = Value> {
    let tools = prop::sample::select(vec!["a.x", "a.*", "*.x", "b.y"]);
    let decision = prop::sample::select(vec!["allow", "confirm", "deny", "hide"]);
    let hint = prop::option::of(prop::sample::select(vec![
        "read_only",
        "not_read_only",
        "destructive",
        "open_world",
    ]));
    (tools, decision, hint, prop::option::of(0..4_i32)).prop_map(
        |(tools, decision, hint, above)| {
            let mut rule = json!({"tools": [tools], "decision": decision});
            if let Some(hint) = hint {
                rule["hints"] = json!([hint]);
            }
            if let (Some(above), true) = (above, decision != "hide") {
                rule["when"] = json!([{"arg": "/n", "op": "gt", "value": above}]);
            }
            rule
        },
    )
}

proptest! {
    /// What is said of a call does not depend on the order of rules or roles, is the strictest of what holds, and
    /// no rule but `allow` ever opens anything.
    #[test]
    fn the_strictest_rule_wins_whatever_the_order(
        rules in prop::collection::vec(rule(), 0..6),
        others in prop::collection::vec(rule(), 0..4),
        more in rule(),
        n in prop::option::of(0..6_i32),
        read_only: bool,
        reference in prop::sample::select(vec!["a.x", "a.y", "b.x", "b.y"]),
    ) {
        let arguments = n.map_or_else(|| json!({}), |n| json!({"n": n}));
        let extra = Role::named("extra").unwrap();
        let of = |rules: &[Value], others: &[Value]| policy(json!({"operator": {"rules": rules}, "extra": {"rules": others}}));
        let roles = [Role::Operator, extra];
        let decided = |policy: &Policy, roles: &[Role]| {
            said(policy, &who(roles, &[]), (reference, hints(read_only)), &arguments).decision
        };
        let plain = decided(&of(&rules, &others), &roles);
        let reversed: Vec<Value> = rules.iter().rev().cloned().collect();
        prop_assert_eq!(plain, decided(&of(&reversed, &others), &roles));
        prop_assert_eq!(plain, decided(&of(&rules, &others), &[extra, Role::Operator]));
        prop_assert_eq!(plain, decided(&of(&others, &rules), &roles));
        let held: Vec<Decision> = rules
            .iter()
            .chain(&others)
            .map(|rule| serde_json::from_value::<Rule>(rule.clone()).unwrap())
            .filter(|rule| {
                let (server, tool) = reference.split_once('.').unwrap();
                rule.is_about((server, tool), hints(read_only)) && rule.holds(Some(&arguments))
            })
            .map(|rule| rule.decision)
            .collect();
        let has = |decision| held.contains(&decision);
        let expected = if has(Decision::Hide) {
            Decision::Hide
        } else if has(Decision::Deny) || !has(Decision::Allow) {
            Decision::Deny
        } else if has(Decision::Confirm) {
            Decision::Confirm
        } else {
            Decision::Allow
        };
        prop_assert_eq!(plain, expected);
        let widened = [rules.as_slice(), std::slice::from_ref(&more)].concat();
        let after = decided(&of(&widened, &others), &roles);
        if more["decision"] == "allow" {
            prop_assert!(rank(after) <= rank(plain));
        } else {
            prop_assert!(rank(after) >= rank(plain));
        }
    }
}
