//! The SKILL.md for host agents: how to use this command, in as few bytes as it takes.

/// At most 1.5 KB, because a host may load it into every conversation.
pub(crate) const SKILL: &str = include_str!("skill.md");

/// The skill's name, which is also its directory's.
pub(crate) const NAME: &str = "paperbot-mcp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skill_is_small_and_names_itself_as_its_directory() {
        assert!(SKILL.len() <= 1536, "{} bytes", SKILL.len());
        assert!(SKILL.starts_with(&format!("---\nname: {NAME}\ndescription: ")));
    }
}
