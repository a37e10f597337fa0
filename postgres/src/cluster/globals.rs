//! Roles and tablespaces, from the output of `pg_dumpall --globals-only`.
//!
//! They come first, since restored objects belong to roles. A statement that fails is a finding, and the rest goes on.

use super::Cluster;
use crate::{Result, error::reason};
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

/// A statement that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalsFinding {
    /// The statement's beginning, without passwords.
    pub statement: String,
    /// The server's message.
    pub error: String,
}

impl Cluster {
    /// Makes the roles and tablespaces that the text describes. Tablespaces lie in the server's own folder instead of where they
    /// were.
    ///
    /// # Errors
    /// When there is no session. Statements that fail are in the list.
    pub async fn restore_globals(&self, sql: &str) -> Result<Vec<GlobalsFinding>> {
        let client = self.maintenance().await?;
        // For tablespaces without a location; unknown to old minor versions, where CREATE TABLESPACE then fails.
        let _ = client.batch_execute("SET allow_in_place_tablespaces = on").await;
        let mut findings = Vec::new();
        for statement in statements(sql) {
            let statement = in_place(&statement);
            let Err(error) = client.batch_execute(&statement).await else { continue };
            // The bootstrap superuser is there already, and its settings follow in the next statement.
            if error.code() == Some(&SqlState::DUPLICATE_OBJECT)
                && statement.starts_with("CREATE ROLE ")
            {
                continue;
            }
            findings.push(GlobalsFinding { statement: shown(&statement), error: reason(&error) });
        }
        Ok(findings)
    }
}

/// `CREATE TABLESPACE … LOCATION '/somewhere'` with an empty location.
fn in_place(statement: &str) -> String {
    match statement.rfind(" LOCATION '") {
        Some(at) if statement.starts_with("CREATE TABLESPACE ") => {
            format!("{} LOCATION ''", &statement[..at])
        }
        _ => statement.to_owned(),
    }
}

/// What may be shown of a statement.
fn shown(statement: &str) -> String {
    let end = statement.find(" PASSWORD ").unwrap_or(statement.len()).min(200);
    statement[..statement.floor_char_boundary(end)].to_owned()
}

/// Splits SQL text at its semicolons, and leaves out comments and psql's commands.
fn statements(sql: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut statement = String::new();
    let mut rest = sql;
    while let Some(letter) = rest.chars().next() {
        let at_start = statement.trim().is_empty();
        let skip = if rest.starts_with("--") || (letter == '\\' && at_start) {
            rest.find('\n').unwrap_or(rest.len())
        } else if letter == '\'' || letter == '"' {
            let escapes = letter == '\'' && statement.ends_with(['E', 'e']);
            let end = quoted(rest, letter, escapes);
            statement.push_str(&rest[..end]);
            end
        } else if letter == ';' {
            all.push(std::mem::take(&mut statement).trim().to_owned());
            1
        } else {
            statement.push(letter);
            letter.len_utf8()
        };
        rest = &rest[skip..];
    }
    all.push(statement.trim().to_owned());
    all.retain(|statement| !statement.is_empty());
    all
}

/// The length of a quoted text, quotes included. A doubled quote ends one text and begins the next, to the same effect.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        if letter == quote && !escaped {
            return at + 1;
        }
        escaped = escapes && letter == '\\' && !escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_at_semicolons_outside_quotes() {
        let sql = "--\n-- a; comment\n\\restrict x;y\n\nSET a = 'it''s; b';\nCREATE ROLE \"a;\"\"b\";\n\
                   COMMENT ON ROLE a IS E'one\\';two';\n\\unrestrict x\n";
        let expected =
            ["SET a = 'it''s; b'", "CREATE ROLE \"a;\"\"b\"", "COMMENT ON ROLE a IS E'one\\';two'"];
        assert_eq!(statements(sql), expected);
        assert_eq!(statements("a; 'unclosed"), ["a", "'unclosed"]);
    }

    #[test]
    fn passwords_are_not_shown_and_locations_not_used() {
        assert_eq!(shown("ALTER ROLE a WITH LOGIN PASSWORD 'SCRAM…'"), "ALTER ROLE a WITH LOGIN");
        assert_eq!(
            in_place("CREATE TABLESPACE fast OWNER a LOCATION '/mnt/x'"),
            "CREATE TABLESPACE fast OWNER a LOCATION ''"
        );
    }
}
