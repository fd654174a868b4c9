//! A page that grows: markup is ours, whatever comes from a file is text.

use super::super::chart::{Panel, single};

/// HTML under way. Only [`raw`](Self::raw) takes markup, and that cannot come from a file.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup as it is.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0 += markup;
        self
    }

    /// Text, also within the quotes of an attribute.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                '\'' => self.0 += "&#39;",
                other => self.0.push(other),
            }
        }
        self
    }

    /// Curves with their axes.
    pub(super) fn plot(&mut self, panel: &Panel) -> &mut Self {
        self.0 += &single(panel);
        self
    }

    /// A PNG within the page, with what it shows below it.
    pub(super) fn picture(&mut self, png: &[u8], caption: &str) -> &mut Self {
        self.raw("<figure><img src=\"data:image/png;base64,");
        base64(png, &mut self.0);
        self.raw("\" alt=\"").text(caption).raw("\"><figcaption>").text(caption).raw("</figcaption></figure>\n")
    }

    /// A table whose first row is its head and whose first column names the rows; it scrolls where it is too wide.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) -> &mut Self {
        let Some((head, body)) = rows.split_first() else { return self };
        self.raw("<div class=\"wide\"><table>\n<thead><tr>");
        for (i, cell) in head.iter().enumerate() {
            let numbers = i > 0 && body.iter().all(|row| row.get(i).is_some_and(|cell| number(cell)));
            self.raw(if numbers { "<th scope=\"col\" class=\"number\">" } else { "<th scope=\"col\">" });
            self.text(cell).raw("</th>");
        }
        self.raw("</tr></thead>\n<tbody>\n");
        for row in body {
            self.raw("<tr>");
            for (i, cell) in row.iter().enumerate() {
                match (i, number(cell)) {
                    (0, _) => self.raw("<th scope=\"row\">").text(cell).raw("</th>"),
                    (_, true) => self.raw("<td class=\"number\">").text(cell).raw("</td>"),
                    (_, false) => self.raw("<td>").text(cell).raw("</td>"),
                };
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table></div>\n")
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Whether a cell holds a number, or nothing.
fn number(cell: &str) -> bool {
    cell.is_empty() || cell.parse::<f64>().is_ok()
}

fn base64(bytes: &[u8], into: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let three = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
        let bits = three.iter().fold(0, |bits: u32, byte| (bits << 8) | u32::from(*byte));
        for digit in 0..4 {
            let found = DIGITS[(bits >> (18 - 6 * digit)) as usize & 63];
            into.push(if digit <= group.len() { char::from(found) } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_rfc_4648_has_them() {
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in expected.into_iter().enumerate() {
            let mut found = String::new();
            base64(&b"foobar"[..length], &mut found);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn text_cannot_become_markup() {
        let mut html = Html::default();
        html.text("<b a='1' c=\"2\">&amp;");
        assert_eq!(html.finish(), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;amp;");
    }
}
