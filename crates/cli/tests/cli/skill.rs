//! `connect --via skill`, `skill`: hosts learn to use the program, and only when told.

use crate::program::Program;

const PLACES: [(&str, &str, &str); 6] = [
    ("claude-code", ".claude/skills", ".claude/skills"),
    ("codex", ".agents/skills", ".agents/skills"),
    ("opencode", ".config/opencode/skills", ".opencode/skills"),
    ("cursor", ".cursor/skills", ".cursor/skills"),
    ("vscode", ".copilot/skills", ".github/skills"),
    ("gemini", ".gemini/skills", ".gemini/skills"),
];

#[test]
fn without_write_the_difference_is_shown_and_nothing_changes() {
    for (host, user, _) in PLACES {
        let program = Program::alone();
        let ended = program.run(&["connect", host, "--via", "skill"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let path = program.home.path().join(user).join("paperbot-mcp/SKILL.md");
        assert!(
            ended.stdout.contains(&format!("+++ {}", path.display())),
            "{ended:?}"
        );
        assert!(
            ended.stdout.contains("\n+name: paperbot-mcp\n"),
            "{ended:?}"
        );
        assert!(ended.stderr.contains("--write"), "{ended:?}");
        assert_eq!(std::fs::read_dir(program.home.path()).unwrap().count(), 0);
    }
}

#[test]
fn with_write_the_skill_is_installed_once() {
    let skill = Program::alone().run(&["skill"]).ok();
    for (host, user, project) in PLACES {
        for (scope, place) in [("user", user), ("project", project)] {
            let program = Program::alone();
            let first = program.run(&["connect", host, "--via=skill", "--scope", scope, "--write"]);
            assert!(first.stdout.starts_with("wrote "), "{first:?}");
            let path = format!("{place}/paperbot-mcp/SKILL.md");
            assert_eq!(program.read(&path), skill);
            let again = program.run(&["connect", host, "--via=skill", "--scope", scope, "--write"]);
            assert_eq!((again.code, again.stdout.as_str()), (0, ""));
            assert!(again.stderr.contains("up to date"), "{again:?}");
            assert!(!program.home.path().join(format!("{path}.bak")).exists());
        }
    }
}

#[test]
fn an_older_file_is_kept_once_as_a_backup() {
    let program = Program::alone();
    program.file(".claude/skills/paperbot-mcp/SKILL.md", "old\n");
    let shown = program
        .run(&["connect", "claude-code", "--via", "skill"])
        .ok();
    assert!(shown.contains("\n-old\n"), "{shown}");
    program
        .run(&["connect", "claude-code", "--via", "skill", "--write"])
        .ok();
    assert_eq!(
        program.read(".claude/skills/paperbot-mcp/SKILL.md.bak"),
        "old\n"
    );
    assert_eq!(
        std::fs::read_dir(program.home.path().join(".claude/skills/paperbot-mcp"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn the_skill_fits_its_budget() {
    let skill = Program::alone().run(&["skill"]).ok();
    assert!(skill.len() <= 1536, "{} bytes", skill.len());
}
