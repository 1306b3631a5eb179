//! `connect`: the bridge becomes one server in the file a host reads, and nothing else there changes.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Ended, Program};

/// A host, its files by scope, and where its servers stand.
struct Host {
    name: &'static str,
    user: &'static str,
    project: &'static str,
    place: &'static [&'static str],
    /// The entry over HTTP and by starting the program.
    http: fn() -> Value,
    stdio: fn() -> Value,
}

const URL: &str = "http://127.0.0.1:8787/mcp";

/// Files of Linux; other systems keep VS Code's elsewhere.
const HOSTS: [Host; 6] = [
    Host {
        name: "claude-code",
        user: ".claude.json",
        project: ".mcp.json",
        place: &["mcpServers"],
        http: || json!({"type": "http", "url": URL, "headers": {"Authorization": "Bearer ${PAPERBOT_TOKEN}"}}),
        stdio: || json!({"type": "stdio", "command": "paperbot-mcp", "args": ["mcp"]}),
    },
    Host {
        name: "codex",
        user: ".codex/config.toml",
        project: ".codex/config.toml",
        place: &["mcp_servers"],
        http: || json!({"url": URL, "bearer_token_env_var": "PAPERBOT_TOKEN"}),
        stdio: || json!({"command": "paperbot-mcp", "args": ["mcp"], "env_vars": ["PAPERBOT_TOKEN"]}),
    },
    Host {
        name: "opencode",
        user: ".config/opencode/opencode.json",
        project: "opencode.json",
        place: &["mcp", "servers"],
        http: || json!({"type": "remote", "url": URL, "headers": {"Authorization": "Bearer {env:PAPERBOT_TOKEN}"}}),
        stdio: || json!({"type": "local", "command": ["paperbot-mcp", "mcp"]}),
    },
    Host {
        name: "cursor",
        user: ".cursor/mcp.json",
        project: ".cursor/mcp.json",
        place: &["mcpServers"],
        http: || json!({"url": URL, "headers": {"Authorization": "Bearer ${env:PAPERBOT_TOKEN}"}}),
        stdio: || json!({"command": "paperbot-mcp", "args": ["mcp"]}),
    },
    Host {
        name: "vscode",
        user: if cfg!(target_os = "macos") {
            "Library/Application Support/Code/User/mcp.json"
        } else {
            ".config/Code/User/mcp.json"
        },
        project: ".vscode/mcp.json",
        place: &["servers"],
        http: || json!({"type": "http", "url": URL, "headers": {"Authorization": "Bearer ${input:paperbot-token}"}}),
        stdio: || json!({"type": "stdio", "command": "paperbot-mcp", "args": ["mcp"]}),
    },
    Host {
        name: "gemini",
        user: ".gemini/settings.json",
        project: ".gemini/settings.json",
        place: &["mcpServers"],
        http: || json!({"httpUrl": URL, "headers": {"Authorization": "Bearer ${PAPERBOT_TOKEN}"}}),
        stdio: || json!({"command": "paperbot-mcp", "args": ["mcp"]}),
    },
];

impl Host {
    fn is_toml(&self) -> bool {
        self.name == "codex"
    }

    fn file(&self, scope: &str) -> &'static str {
        if scope == "user" {
            self.user
        } else {
            self.project
        }
    }

    fn connect(&self, program: &Program, more: &[&str]) -> Ended {
        program.run(&[&["connect", self.name], more].concat())
    }

    /// What the file says.
    fn read(&self, program: &Program, scope: &str) -> Value {
        said(self, &program.read(self.file(scope)))
    }

    fn servers(&self, document: &Value) -> Value {
        self.place
            .iter()
            .fold(document.clone(), |at, key| at[key].clone())
    }

    /// A file with a comment, an order, an odd layout, and another server with a secret.
    fn lived_in(&self) -> String {
        let old = r#"{ "command": "x", "args": ["--token", "hunter2"], "env": { "K_TOKEN": "hunter2" } }"#;
        match self.name {
            "codex" => "# mine\nmodel = \"m\"   # this one\n\n[mcp_servers.old]\ncommand = \"x\" # keep\nenv = { K_TOKEN = \"hunter2\" }\n\n[tui]\nnotifications = [ \"a\",  \"b\" ]\n".to_owned(),
            "opencode" => format!("{{\n  // mine\n  \"theme\":   \"t\",\n  \"mcp\": {{ \"servers\": {{\n      \"old\": {old} // keep\n    }}\n  }},\n  \"z\": [1,   2], // last\n}}\n"),
            _ => format!("{{\n\t// mine\n\t\"theme\":   \"t\",\n\t\"{}\": {{\n\t\t\"old\": {old}, // keep\n\t}},\n\t/* more */ \"z\": [1,   2]\n}}\n", self.place[0]),
        }
    }
}

fn said(host: &Host, text: &str) -> Value {
    if host.is_toml() {
        toml_edit::de::from_str(text).unwrap()
    } else {
        let options = jsonc_parser::ParseOptions::default();
        jsonc_parser::parse_to_serde_value(text, &options).unwrap()
    }
}

#[test]
fn without_write_the_difference_is_shown_and_nothing_changes() {
    for host in HOSTS {
        for (scope, via) in [("user", "http"), ("project", "stdio")] {
            let program = Program::alone();
            let ended = host.connect(&program, &["--scope", scope, "--via", via]);
            assert_eq!(ended.code, 0, "{ended:?}");
            let header = format!("--- /dev/null\n+++ {}", host.file(scope));
            let header = if scope == "user" {
                header.replace("+++ ", &format!("+++ {}/", program.home.path().display()))
            } else {
                header
            };
            assert!(ended.stdout.starts_with(&header), "{ended:?}");
            assert!(ended.stdout.contains("paperbot"), "{ended:?}");
            assert!(ended.stderr.contains("--write"), "{ended:?}");
            assert_eq!(std::fs::read_dir(program.home.path()).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_new_file_holds_the_entry_as_each_host_wants_it() {
    for host in HOSTS {
        for scope in ["user", "project"] {
            for via in ["http", "stdio"] {
                let program = Program::alone();
                let write = ["--scope", scope, "--via", via, "--write"];
                let ended = host.connect(&program, &write);
                assert!(ended.stdout.starts_with("wrote "), "{ended:?}");
                let document = host.read(&program, scope);
                let expected = if via == "http" {
                    (host.http)()
                } else {
                    (host.stdio)()
                };
                assert_eq!(
                    host.servers(&document),
                    json!({"paperbot": expected}),
                    "{}",
                    host.name
                );
                let asks = host.name == "vscode" && via == "http";
                assert_eq!(document.get("inputs").is_some(), asks, "{}", host.name);
                let again = host.connect(&program, &write);
                assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again:?}");
                assert!(again.stderr.contains("nothing to do"), "{again:?}");
                let backup = format!("{}.bak", host.file(scope));
                assert!(!program.home.path().join(backup).exists());
            }
        }
    }
}

#[test]
fn a_file_that_is_there_keeps_everything_else_to_the_letter() {
    for host in HOSTS {
        let program = Program::alone();
        let before = host.lived_in();
        program.file(host.user, &before);
        let shown = host.connect(&program, &[]);
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
        assert_eq!(program.read(host.user), before);

        host.connect(&program, &["--write"]).ok();
        let after = program.read(host.user);
        assert_eq!(program.read(&format!("{}.bak", host.user)), before);
        // Nothing but whole new lines, and a comma after what was last.
        let added = |line: &&str| !before.lines().any(|old| old == *line);
        let kept: Vec<&str> = after.lines().filter(|line| !added(line)).collect();
        let lost: Vec<&str> = before.lines().filter(|line| !kept.contains(line)).collect();
        let changed = lost.iter().all(|line| {
            let with_comma = [line.replace(" // keep", ", // keep"), format!("{line},")];
            after
                .lines()
                .any(|new| with_comma.iter().any(|line| line == new))
        });
        assert!(
            changed,
            "{}: {lost:?} of\n{before}became\n{after}",
            host.name
        );
        let mut expected = said(&host, &before);
        let place = host
            .place
            .iter()
            .fold(&mut expected, |at, key| &mut at[key]);
        place["paperbot"] = (host.http)();
        if host.name == "vscode" {
            expected["inputs"] = said(&host, &after)["inputs"].clone();
        }
        assert_eq!(said(&host, &after), expected, "{}", host.name);

        let again = host.connect(&program, &["--write"]);
        assert!(again.stderr.contains("nothing to do"), "{again:?}");
        assert_eq!(program.read(host.user), after);
    }
}

#[test]
fn an_entry_of_ours_is_brought_up_to_date_and_keeps_what_a_person_added() {
    for host in HOSTS {
        let program = Program::alone();
        host.connect(&program, &["--via", "stdio", "--write"]).ok();
        let text = program.read(host.user);
        let text = if host.is_toml() {
            text.replace("command = ", "tool_timeout_sec = 9 # mine\ncommand = ")
        } else {
            text.replace("\"command\"", "\"timeout\": 9, // mine\n \"command\"")
        };
        program.file(host.user, &text);
        let ended = host.connect(&program, &["--workspace", "w", "--write"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let after = program.read(host.user);
        assert!(
            after.contains("9, // mine") || after.contains("9 # mine"),
            "{after}"
        );
        let mut expected = (host.http)();
        let (timeout, headers) = match host.name {
            "codex" => ("tool_timeout_sec", "http_headers"),
            _ => ("timeout", "headers"),
        };
        expected[timeout] = json!(9);
        expected[headers]["X-Workspace"] = json!("w");
        let document = host.read(&program, "user");
        assert_eq!(
            host.servers(&document)["paperbot"],
            expected,
            "{}",
            host.name
        );
        // And back again: nothing of the other way is left.
        host.connect(&program, &["--via", "stdio", "--write"]).ok();
        let mut expected = (host.stdio)();
        expected[timeout] = json!(9);
        let document = host.read(&program, "user");
        assert_eq!(
            host.servers(&document)["paperbot"],
            expected,
            "{}",
            host.name
        );
    }
}

#[test]
fn another_server_of_the_same_name_is_left_alone() {
    for host in HOSTS {
        let program = Program::alone();
        let before = host.lived_in();
        program.file(host.project, &before);
        let refused = host.connect(
            &program,
            &["--scope", "project", "--name", "old", "--write"],
        );
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (2, ""),
            "{refused:?}"
        );
        let error = refused.error();
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("`old` is another server"),
            "{error}"
        );
        assert!(
            error["hint"].as_str().unwrap().contains("--name"),
            "{error}"
        );
        assert_eq!(program.read(host.project), before);
        assert!(
            !program
                .home
                .path()
                .join(format!("{}.bak", host.project))
                .exists()
        );
    }
}

#[test]
fn a_broken_file_is_refused_with_its_place_and_stays_as_it_is() {
    for host in HOSTS {
        for broken in [
            "{\n  \"a\": \"hunter2\" \"b\"\n}\n",
            "a = \"hunter2\"\nb = = 1\n",
        ] {
            let program = Program::alone();
            program.file(host.user, broken);
            let refused = host.connect(&program, &["--write"]);
            assert_eq!(refused.code, 2, "{refused:?}");
            let message = refused.error()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(host.user), "{message}");
            assert!(message.contains(": line "), "{message}");
            assert!(message.contains(", column "), "{message}");
            assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
            assert_eq!(program.read(host.user), broken);
        }
    }
}

#[test]
fn a_file_of_another_shape_is_refused() {
    for (text, part) in [
        ("[1]", "content"),
        ("{\"mcpServers\": []}", "`mcpServers`"),
        ("{\"mcpServers\": {}, \"mcpServers\": {\"a\": {}}}", "twice"),
    ] {
        let program = Program::alone();
        program.file(".cursor/mcp.json", text);
        let refused = program.run(&["connect", "cursor", "--write"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        let message = refused.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{message}");
        assert_eq!(program.read(".cursor/mcp.json"), text);
    }
}

#[test]
fn an_empty_file_and_one_with_a_mark_are_files_all_the_same() {
    for text in [
        "",
        "\n",
        "\u{feff}{\r\n  \"a\": 1\r\n}\r\n",
        "// nothing yet\n",
    ] {
        let program = Program::alone();
        program.file(".cursor/mcp.json", text);
        program.run(&["connect", "cursor", "--write"]).ok();
        let after = program.read(".cursor/mcp.json");
        assert_eq!(after.starts_with('\u{feff}'), text.starts_with('\u{feff}'));
        assert_eq!(
            after.matches('\n').count() == after.matches("\r\n").count(),
            text.contains('\r')
        );
        assert!(after.contains("\"paperbot\""), "{after}");
    }
}

#[cfg(unix)]
#[test]
fn where_nothing_can_be_written_it_says_so_and_nothing_is_left_behind() {
    use std::os::unix::fs::PermissionsExt as _;

    for host in HOSTS {
        let program = Program::alone();
        // Not even root makes directories in there.
        let mut command = program.command(&["connect", host.name, "--write"]);
        let refused: Ended = command.env("HOME", "/proc").output().unwrap().into();
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (1, ""),
            "{refused:?}"
        );
        assert_eq!(refused.error()["code"], "local_io");

        if nix::unistd::geteuid().is_root() {
            continue;
        }
        let before = host.lived_in();
        let file = program.file(host.user, &before);
        let directory = file.parent().unwrap();
        let allow =
            |mode| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode));
        allow(0o555).unwrap();
        let refused = host.connect(&program, &["--write"]);
        allow(0o755).unwrap();
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (1, ""),
            "{refused:?}"
        );
        assert_eq!(program.read(host.user), before);
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
    }
}

#[cfg(unix)]
#[test]
fn a_linked_file_keeps_its_link_and_its_permissions() {
    use std::os::unix::fs::PermissionsExt as _;

    let program = Program::alone();
    let real = program.file("dotfiles/mcp.json", "{}\n");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = program.home.path().join(".cursor/mcp.json");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    program.run(&["connect", "cursor", "--write"]).ok();
    assert!(link.is_symlink());
    assert!(program.read("dotfiles/mcp.json").contains("paperbot"));
    let mode = std::fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let new = Program::alone();
    new.run(&["connect", "cursor", "--write"]).ok();
    let file = new.home.path().join(".cursor/mcp.json");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn opencodes_older_version_gets_its_older_form() {
    let program = Program::alone();
    let text =
        "{\n  \"mcp\": {\n    \"jira\": {\"type\": \"remote\", \"url\": \"https://x\"}\n  }\n}\n";
    program.file("opencode.jsonc", text);
    program.file("opencode.json", "{}");
    program
        .run(&["connect", "opencode", "--scope", "project", "--write"])
        .ok();
    let after = said(&HOSTS[0], &program.read("opencode.jsonc"));
    let mut expected = (HOSTS[2].http)();
    expected["enabled"] = json!(true);
    assert_eq!(after["mcp"]["paperbot"], expected);
    assert_eq!(program.read("opencode.json"), "{}");
}

#[test]
fn vs_codes_question_for_the_key_is_asked_once() {
    let program = Program::alone();
    let text = "{\"inputs\": [{\"id\": \"other\", \"type\": \"promptString\"}], \"servers\": {}}";
    program.file(".vscode/mcp.json", text);
    let connect = ["connect", "vscode", "--scope", "project", "--write"];
    program.run(&connect).ok();
    program
        .run(&[&connect[..], &["--server", "files"]].concat())
        .ok();
    let after = said(&HOSTS[4], &program.read(".vscode/mcp.json"));
    let ids: Vec<&Value> = after["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| &input["id"])
        .collect();
    assert_eq!(ids, ["other", "paperbot-token"]);
    assert_eq!(after["inputs"][1]["password"], true);
    assert_eq!(
        after["servers"]["paperbot-files"]["url"],
        format!("{URL}/files")
    );
}

#[test]
fn the_bridge_elsewhere_is_named_and_its_key_is_not() {
    let program = Program::alone();
    let key = program.file("key", "pb_secret_key");
    let elsewhere = [
        "--url",
        "https://bridge.example/p/",
        "--token-file",
        "key",
        "--workspace",
        "w",
    ];
    let run = |more: &[&str]| {
        let mut command =
            program.command(&[&["connect", "cursor", "--write"], more, &elsewhere[..]].concat());
        let ended: Ended = command
            .env("PAPERBOT_TOKEN", "pb_secret_key")
            .output()
            .unwrap()
            .into();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(!format!("{ended:?}").contains("pb_secret_key"));
        let text = program.read(".cursor/mcp.json");
        assert!(!text.contains("pb_secret_key"), "{text}");
        said(&HOSTS[3], &text)["mcpServers"]["paperbot"].clone()
    };
    assert_eq!(
        run(&[]),
        json!({"url": "https://bridge.example/p/mcp", "headers":
            {"Authorization": "Bearer ${env:PAPERBOT_TOKEN}", "X-Workspace": "w"}})
    );
    let key = key.display().to_string();
    assert_eq!(
        run(&["--via", "stdio"]),
        json!({"command": "paperbot-mcp", "args":
            ["mcp", "--url", "https://bridge.example/p", "--token-file", key, "--workspace", "w"]})
    );
}

#[test]
fn what_a_person_still_has_to_do_is_said() {
    let program = Program::alone();
    let notes = |arguments: &[&str]| program.run(&[&["connect"], arguments].concat()).stderr;
    let http = notes(&["cursor"]);
    assert!(
        http.contains("PAPERBOT_TOKEN") && http.contains("admin.key"),
        "{http}"
    );
    let asked = notes(&["vscode"]);
    assert!(asked.contains("asks for the key"), "{asked}");
    let named = notes(&["cursor", "--token-file", "/keys/mine"]);
    assert!(
        named.contains("/keys/mine") && !named.contains("admin.key"),
        "{named}"
    );
    for bad in [["--server", "no such"], ["--name", "my server"]] {
        let ended = program.run(&[&["connect", "cursor"], &bad[..]].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(bad[0]), "{ended:?}");
    }
    let started = notes(&["cursor", "--via", "stdio"]);
    assert!(started.contains("not in PATH"), "{started}");
    let open = notes(&["cursor", "--url", "http://bridge.example"]);
    assert!(open.contains("unencrypted"), "{open}");
    assert!(!Path::new(&program.home.path().join(".cursor")).exists());
}

#[test]
fn the_page_about_hosts_shows_the_very_files_that_are_written() {
    let page = include_str!("../../../../docs/hosts.md");
    for host in HOSTS {
        let program = Program::alone();
        host.connect(&program, &["--write"]).ok();
        let kind = if host.is_toml() { "toml" } else { "json" };
        let block = format!("```{kind}\n{}```\n", program.read(host.user));
        assert!(page.contains(&block), "{}: {block}", host.name);
        assert!(page.contains(&format!("connect {} --write", host.name)));
        for (member, value) in (host.stdio)().as_object().unwrap() {
            let shown = if host.is_toml() {
                format!("`{member} = {value}`")
            } else {
                format!("\"{member}\": {value}").replace("\",\"", "\", \"")
            };
            assert!(page.contains(&shown), "{}: {shown}", host.name);
        }
    }
}
