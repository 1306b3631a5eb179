//! INSERTs of many rows: a few texts, made once, so that every statement is prepared once a connection.

use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::Arguments as _;
use sqlx::any::AnyArguments;

use super::db::Kind;

/// Rows of one statement. Few sizes, so that few statements are prepared; the largest stays below the 32,766
/// parameters SQLite takes and the 65,535 PostgreSQL takes, for any table here.
const SIZES: [usize; 4] = [128, 32, 8, 1];

/// One INSERT, in its sizes.
#[derive(Debug, Clone)]
pub(super) struct Bulk([(usize, Arc<str>); SIZES.len()]);

impl Bulk {
    /// `insert` up to and with `VALUES`, the columns of one row, and what follows the rows.
    pub(super) fn new(kind: Kind, insert: &str, columns: usize, tail: &str) -> Self {
        Self(SIZES.map(|rows| {
            let values = placeholders(kind, 0, (rows, columns));
            (rows, Arc::from(format!("{insert} {values} {tail}")))
        }))
    }

    /// Rows that have some columns in common: those are bound once, after the rows. `insert` names the rows' own
    /// columns first.
    pub(super) fn alike(
        kind: Kind,
        insert: &str,
        (own, common): (usize, usize),
        tail: &str,
    ) -> Self {
        Self(SIZES.map(|rows| {
            let each = placeholders(kind, 0, (rows, own));
            let once = placeholders(kind, rows * own, (1, common));
            let text = format!(
                "{insert} SELECT own.*, common.* FROM (VALUES {each}) AS own \
                 CROSS JOIN (VALUES {once}) AS common WHERE true {tail}"
            );
            (rows, Arc::from(text))
        }))
    }

    /// Cuts rows into statements.
    pub(super) fn cut<'r, T>(&self, mut rows: &'r [T]) -> Vec<(Arc<str>, &'r [T])> {
        let mut parts = Vec::new();
        for (size, text) in &self.0 {
            while let Some((some, rest)) = rows.split_at_checked(*size) {
                parts.push((Arc::clone(text), some));
                rows = rest;
            }
        }
        parts
    }
}

/// `(…), (…)` for so many rows of so many columns. PostgreSQL wants numbers. SQLite takes them too, but looks a
/// numbered parameter up by walking all before it, for every parameter of every execution.
fn placeholders(kind: Kind, before: usize, (rows, columns): (usize, usize)) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            text.push_str(if column == 0 { "" } else { ", " });
            let _ = match kind {
                Kind::Sqlite => text.write_char('?'),
                Kind::Postgres => write!(text, "${}", before + row * columns + column + 1),
            };
        }
        text.push(')');
    }
    text
}

/// Values in the order of the placeholders.
pub(super) struct Values(AnyArguments);

impl Values {
    pub(super) fn with_capacity(count: usize) -> Self {
        let mut values = AnyArguments::default();
        values.reserve(count, 0);
        Self(values)
    }

    fn add<T: for<'t> sqlx::Encode<'t, sqlx::Any> + sqlx::Type<sqlx::Any>>(&mut self, value: T) {
        // Texts and numbers always have a form.
        let _ = self.0.add(value);
    }

    /// A text; PostgreSQL refuses NUL in texts, and what callers name may hold any character.
    pub(super) fn text(&mut self, text: impl Into<String>) {
        let text = text.into();
        if text.as_bytes().contains(&0) {
            self.add(text.replace('\0', "\u{fffd}"));
        } else {
            self.add(text);
        }
    }

    pub(super) fn maybe_text(&mut self, text: Option<impl Into<String>>) {
        match text {
            Some(text) => self.text(text),
            None => self.add(None::<String>),
        }
    }

    pub(super) fn number(&mut self, number: i64) {
        self.add(number);
    }

    pub(super) fn maybe_number(&mut self, number: Option<i64>) {
        self.add(number);
    }

    pub(super) fn done(self) -> AnyArguments {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_few_sizes() {
        let bulk = Bulk::new(
            Kind::Postgres,
            "INSERT INTO t (a, b) VALUES",
            2,
            "ON CONFLICT DO NOTHING",
        );
        let rows: Vec<u32> = (0..300).collect();
        let parts = bulk.cut(&rows);
        let sizes: Vec<_> = parts.iter().map(|(_, some)| some.len()).collect();
        assert_eq!(sizes, [128, 128, 32, 8, 1, 1, 1, 1]);
        assert_eq!(
            parts
                .into_iter()
                .flat_map(|(_, some)| some.iter().copied())
                .collect::<Vec<_>>(),
            rows
        );
        assert_eq!(
            &*Bulk::new(Kind::Sqlite, "INSERT INTO t VALUES", 2, "").0[2].1,
            "INSERT INTO t VALUES (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?) "
        );
    }
}
