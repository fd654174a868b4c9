//! Protobuf's text format, as far as a server's settings need it.

use std::fmt::{Display, Write};

/// A message that is written field by field, indented by its depth.
#[derive(Default)]
pub(super) struct Message {
    text: String,
    depth: usize,
}

impl Message {
    /// A line that explains what follows.
    pub(super) fn comment(&mut self, text: &str) {
        self.line(&format!("# {text}"));
    }

    /// A number, a name of an enumeration, or true and false.
    pub(super) fn plain(&mut self, field: &str, value: impl Display) {
        self.line(&format!("{field}: {value}"));
    }

    /// A text.
    pub(super) fn string(&mut self, field: &str, value: &str) {
        self.line(&format!("{field}: {}", quoted(value)));
    }

    /// A list of numbers, empty or not.
    pub(super) fn numbers(&mut self, field: &str, values: &[usize]) {
        let values: Vec<String> = values.iter().map(usize::to_string).collect();
        self.line(&format!("{field}: [{}]", values.join(", ")));
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: &str, fill: impl FnOnce(&mut Self)) {
        self.line(&format!("{field} {{"));
        self.depth += 1;
        fill(self);
        self.depth -= 1;
        self.line("}");
    }

    /// An entry of a map from text to text.
    pub(super) fn entry(&mut self, field: &str, key: &str, value: &str) {
        self.line(&format!("{field} {{ key: {} value: {} }}", quoted(key), quoted(value)));
    }

    /// The text that was written.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.extend(std::iter::repeat_n("  ", self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A text in quotes; bytes outside of printable ASCII are written as octal numbers.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(quoted, "\\{byte:03o}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_text_is_escaped() {
        assert_eq!(quoted("a\"b\\c\né"), r#""a\"b\\c\012\303\251""#);
    }

    #[test]
    fn messages_are_indented() {
        let mut message = Message::default();
        message.message("a", |a| {
            a.numbers("b", &[]);
            a.message("c", |c| c.plain("d", 1));
        });
        assert_eq!(message.finish(), "a {\n  b: []\n  c {\n    d: 1\n  }\n}\n");
    }
}
