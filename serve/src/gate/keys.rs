//! The file of API keys.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Characters that a key has at least.
const MIN_LEN: usize = 16;
/// Characters of a name at most.
const MAX_NAME: usize = 64;

/// A file of keys that cannot be used, and why. Never tells a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the API keys in {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The file has no key.
    #[error("{}: no API key; write one a line, as KEY or NAME: KEY, of {MIN_LEN} characters or more", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

/// The keys of a server, of which it keeps digests only.
pub(super) struct Keys(Vec<Key>);

struct Key {
    name: Arc<str>,
    digest: [u8; 32],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

impl Keys {
    /// # Errors
    /// The file cannot be read, has no key or one that is not fit for use.
    pub(super) fn read(path: &Path) -> Result<Self, KeysError> {
        let text = std::fs::read_to_string(path).map_err(|cause| KeysError::Read { path: path.to_owned(), cause })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, KeysError> {
        let (mut keys, mut names, mut digests) = (Vec::new(), HashSet::new(), HashSet::new());
        let lines = text.lines().map(str::trim).zip(1..);
        for (text, line) in lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#')) {
            let wrong = |problem: String| KeysError::Line { path: path.to_owned(), line, problem };
            let key = parse_line(text, line).map_err(wrong)?;
            if !names.insert(Arc::clone(&key.name)) {
                return Err(wrong(format!("the name {:?} is there twice", key.name)));
            }
            if !digests.insert(key.digest) {
                return Err(wrong("this key is there twice".to_owned()));
            }
            keys.push(key);
        }
        match keys.is_empty() {
            true => Err(KeysError::Empty { path: path.to_owned() }),
            false => Ok(Self(keys)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of `key`, if it is one of these. The time that takes does not tell how much of it is right.
    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<str>> {
        let digest = digest(key);
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(&key.name);
            }
        }
        found.cloned()
    }
}

/// `KEY` or `NAME: KEY`. A key without a name is called by its line.
fn parse_line(text: &str, line: usize) -> Result<Key, String> {
    let (name, key) = match text.split_once(':') {
        Some((name, key)) => (name.trim_end().to_owned(), key.trim_start()),
        None => (format!("line-{line}"), text),
    };
    let is_word = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if name.is_empty() || name.len() > MAX_NAME || !is_word(&name) {
        return Err(format!("what is before the colon is no name: 1 to {MAX_NAME} letters, digits, - _ . @"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key has visible ASCII characters only, without spaces between".to_owned());
    }
    if key.len() < MIN_LEN {
        let length = key.len();
        return Err(format!(
            "the key has {length} characters; {MIN_LEN} are the least, such as those of `openssl rand -hex 32`"
        ));
    }
    Ok(Key { name: name.into(), digest: digest(key.as_bytes()) })
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Keys, KeysError> {
        Keys::parse(text, Path::new("keys.txt"))
    }

    #[test]
    fn keys_have_names_and_comments() {
        let keys =
            parse("# ours\n\n  alice: 0123456789abcdef\r\n+/=aaaaaaaaaaaaaaaa\nb.o-b_@ :fedcba9876543210\n").unwrap();
        let name = |key: &str| keys.find(key.as_bytes()).map(|name| name.to_string());
        assert_eq!(name("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(name("+/=aaaaaaaaaaaaaaaa").as_deref(), Some("line-4"));
        assert_eq!(name("fedcba9876543210").as_deref(), Some("b.o-b_@"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef ", "alice: 0123456789abcdef"] {
            assert_eq!(name(wrong), None, "{wrong:?}");
        }
        assert_eq!((keys.len(), format!("{keys:?}").as_str()), (3, r#"["alice", "line-4", "b.o-b_@"]"#));
    }

    #[test]
    fn wrong_lines_are_told_without_their_key() {
        for (text, words) in [
            ("", "no API key"),
            ("# only\n\n", "no API key"),
            ("0123456789abcde", "line 1: the key has 15 characters"),
            ("\nalice: short", "line 2: the key has 5 characters"),
            ("0123456789 abcdef", "line 1: a key has visible ASCII"),
            ("0123456789abcdefé", "line 1: a key has visible ASCII"),
            ("al ice: 0123456789abcdef", "line 1: what is before the colon"),
            (": 0123456789abcdef", "line 1: what is before the colon"),
            ("a: 0123456789abcdef\na: 0123456789abcdeg", "line 2: the name \"a\" is there twice"),
            ("a: 0123456789abcdef\nb: 0123456789abcdef", "line 2: this key is there twice"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("keys.txt") && error.contains(words), "{text:?}: {error}");
            assert!(!error.contains("abcde"), "{error}");
        }
        let error = Keys::read(Path::new("/absent/keys")).unwrap_err().to_string();
        assert!(error.contains("/absent/keys"), "{error}");
    }
}
