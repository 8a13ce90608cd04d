//! SPDX licence expressions, as far as crates use them: identifiers, `WITH`, `AND`, `OR`, parentheses, and `/` for `OR`.

/// True if `expression` can be satisfied by licences that `allowed` accepts. `AND` binds tighter than `OR`; an exception
/// is part of its licence (`Apache-2.0 WITH LLVM-exception`).
///
/// # Errors
/// What is wrong with the expression.
pub(crate) fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().peekable(), allowed };
    let result = parser.any().and_then(|satisfied| match parser.words.next() {
        None => Ok(satisfied),
        Some(word) => Err(format!("unexpected {word:?}")),
    });
    result.map_err(|error| format!("licence {expression:?}: {error}"))
}

struct Parser<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<bool, String> {
        let mut satisfied = self.all()?;
        while self.words.next_if_eq(&"OR").is_some() {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut satisfied = self.one()?;
        while self.words.next_if_eq(&"AND").is_some() {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool, String> {
        match self.words.next() {
            Some("(") => {
                let satisfied = self.any()?;
                self.words.next_if_eq(&")").ok_or("parenthesis is not closed")?;
                Ok(satisfied)
            }
            Some(word @ (")" | "AND" | "OR" | "WITH")) => Err(format!("unexpected {word:?}")),
            Some(licence) if self.words.next_if_eq(&"WITH").is_some() => {
                let exception = self.words.next().ok_or("WITH nothing")?;
                Ok((self.allowed)(&format!("{licence} WITH {exception}")))
            }
            Some(licence) => Ok((self.allowed)(licence)),
            None => Err("it ends early".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mit_or_apache(licence: &str) -> bool {
        ["MIT", "Apache-2.0"].contains(&licence)
    }

    #[test]
    fn one_side_of_or_and_both_of_and_are_needed() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND BSD-3-Clause", false),
            ("BSD-1-Clause AND ISC OR MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("(MIT OR Unlicense) AND (GPL-2.0-only OR Apache-2.0)", true),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ] {
            assert_eq!(satisfied(expression, &mit_or_apache), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn broken_expressions_are_errors() {
        for expression in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "AND MIT", "MIT WITH"] {
            assert!(satisfied(expression, &mit_or_apache).is_err(), "{expression:?}");
        }
    }
}
