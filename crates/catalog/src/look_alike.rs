//! Names that people take for one another. Pure; decides nothing about who gives way.

use std::collections::HashMap;

use unicode_security::skeleton;

/// What is left of a name when everything is gone that the eye overlooks: scripts, case, separators, and the
/// letters and digits that stand for one another. Equal skeletons look alike.
#[must_use]
pub fn name_skeleton(name: &str) -> String {
    let plain: String = skeleton(name)
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    // The standard's table makes `m` of nothing; typefaces make `rn` and `vv` of it.
    let joined = plain.replace("rn", "m").replace("vv", "w");
    joined
        .chars()
        .map(|c| match c {
            '0' => 'o',
            '1' | 'i' => 'l',
            '5' => 's',
            other => other,
        })
        .collect()
}

/// Which of these names look like another of them.
pub(crate) fn among<'a>(names: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let skeletons: Vec<String> = names.map(name_skeleton).collect();
    let mut seen = HashMap::<&str, usize>::new();
    for skeleton in &skeletons {
        *seen.entry(skeleton).or_default() += 1;
    }
    let shared = |skeleton: &String| seen.get(skeleton.as_str()).is_some_and(|times| *times > 1);
    skeletons.iter().map(shared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_eye_overlooks_is_the_same() {
        for (one, other) in [
            ("github", "g1thub"),
            ("github", "git-hub"),
            ("github", "GitHub"),
            ("github", "g\u{456}thub"),
            ("modern", "modem"),
            ("paypal", "paypa1"),
            ("read_file", "read-file"),
            ("s3-tools", "s3t0ols"),
        ] {
            assert_eq!(name_skeleton(one), name_skeleton(other), "{one} {other}");
        }
    }

    #[test]
    fn what_differs_to_the_eye_stays_apart() {
        for (one, other) in [
            ("github", "gitlab"),
            ("server1", "server2"),
            ("files", "file"),
            ("get_user", "get_users"),
            ("a", "b"),
        ] {
            assert_ne!(name_skeleton(one), name_skeleton(other), "{one} {other}");
        }
        assert_eq!(
            among(["send", "read_file", "read-file"].into_iter()),
            [false, true, true]
        );
    }
}
