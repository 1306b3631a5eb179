//! Takes secrets out of the two places where the bridge refuses them: command lines and URLs. Pure.

use url::Url;

use super::secrets;

/// A command line is visible to every process of the machine: what looks like a secret is left out.
pub(crate) fn command(words: Vec<String>, left_out: &mut dyn FnMut(String)) -> Vec<String> {
    let mut kept = Vec::with_capacity(words.len());
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let (flag, inline) = flag(&word);
        let follows = words.peek().is_some_and(|next| !next.starts_with('-'));
        if secrets::is_secret_name(flag) && (inline || follows) {
            left_out(format!(
                "the secret after --{flag} in its command; pass it by env"
            ));
            if !inline {
                words.next();
            }
        } else if secrets::is_secret_value(&word) {
            left_out("a secret in its command; pass it by env".to_owned());
        } else {
            kept.push(word);
        }
    }
    kept
}

/// The name of `--name` or `--name=value`, and whether a value stands in the same word.
fn flag(word: &str) -> (&str, bool) {
    let Some(flag) = word.strip_prefix('-') else {
        return ("", false);
    };
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    (name.trim_start_matches('-'), !value.is_empty())
}

/// A URL stands in logs and lists: user, password and secret parameters are left out.
pub(crate) fn url(url: &mut Url, left_out: &mut dyn FnMut(String)) {
    if !url.username().is_empty() || url.password().is_some() {
        // Neither fails for a URL that has a host, and only such a URL can have them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        left_out("the user and password in its URL; use a header".to_owned());
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let is_secret =
        |name: &str, value: &str| secrets::is_secret_name(name) || secrets::is_secret_value(value);
    let (secret, plain): (Vec<_>, Vec<_>) = pairs
        .into_iter()
        .partition(|(name, value)| is_secret(name, value));
    if secret.is_empty() {
        return;
    }
    for (name, _) in &secret {
        left_out(format!("`{name}` in its URL's query; use a header"));
    }
    url.set_query(None);
    if !plain.is_empty() {
        url.query_pairs_mut().extend_pairs(plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_lose_their_secrets_and_nothing_else() {
        let words = [
            "x",
            "--token",
            "t0p",
            "--api-key=k",
            "--token-count",
            "5",
            "-v",
            "ghp_0123456789ab",
        ];
        let mut told = Vec::new();
        let kept = command(words.map(str::to_owned).to_vec(), &mut |one| told.push(one));
        assert_eq!(kept, ["x", "-v"]);
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn urls_lose_their_secrets_and_nothing_else() {
        let mut told = Vec::new();
        let mut dirty = Url::parse("https://me:pw@x.example/a?v=1&access_token=t").unwrap();
        url(&mut dirty, &mut |one| told.push(one));
        assert_eq!(dirty.as_str(), "https://x.example/a?v=1");
        assert_eq!(told.len(), 2);
    }
}
