//! What a name alone gives away: variables that decide what code runs, and fields that hold secrets.

/// Variables by which whoever sets them decides what code runs or where traffic goes.
pub(super) fn is_loader_variable(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let prefixes = ["LD_", "DYLD_", "PERL5"];
    let names = ["PATH", "NODE_OPTIONS", "RUBYOPT", "BASH_ENV", "ENV", "IFS"];
    prefixes.iter().any(|prefix| upper.starts_with(prefix))
        || names.contains(&upper.as_str())
        || upper.ends_with("_PROXY")
        || (upper.starts_with("PYTHON") && upper != "PYTHONUNBUFFERED")
}

/// Whether a field's name says that its value is a secret. By whole words, so that `MAX_TOKENS` or
/// `TOKENIZERS_PARALLELISM` are none.
pub(super) fn looks_secret(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "token",
        "secret",
        "password",
        "passwd",
        "pwd",
        "apikey",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "bearer",
        "pat",
    ];
    const PAIRS: [(&str, &str); 4] = [
        ("api", "key"),
        ("access", "key"),
        ("private", "key"),
        ("auth", "key"),
    ];
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    words.iter().any(|word| WORDS.contains(word))
        || words
            .windows(2)
            .any(|pair| PAIRS.contains(&(pair[0], pair[1])))
}
