//! What is asked for: the address and the query of each request.

use axum::http::Uri;
use drifting_spec::Stream;

use super::LoadError;

/// What every request asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Classes by number or name; each request takes one of them at random.
    pub classes: Vec<String>,
    /// Guidance; the model's default where there is none.
    pub alpha: Option<f64>,
    /// Images of one request.
    pub images: usize,
    /// The answer's format; the server's default where there is none.
    pub format: Option<String>,
    /// Gives classes and seeds of all requests, and random arrivals.
    pub seed: u64,
}

impl Default for Question {
    fn default() -> Self {
        Self { classes: vec!["0".to_owned()], alpha: None, images: 1, format: None, seed: 0 }
    }
}

impl Question {
    /// The query of request `index`; every request has a seed of its own.
    pub(super) fn query(&self, index: u64) -> String {
        let mut stream = Stream::new(self.seed, "load/request", index);
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(class) = self.classes.get(stream.below(self.classes.len())) {
            query.append_pair("class", class);
        }
        if let Some(alpha) = self.alpha {
            query.append_pair("alpha", &alpha.to_string());
        }
        query.append_pair("n", &self.images.to_string());
        if let Some(format) = &self.format {
            query.append_pair("format", format);
        }
        // Below 2^53, which every language's JSON holds.
        let seed = (stream.uniform() * (1_u64 << 53) as f64) as u64;
        query.append_pair("seed", &seed.to_string());
        query.finish()
    }
}

/// A server: where images are made, and where it tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `http://host:port`
    origin: String,
    /// Path of the images.
    path: String,
}

impl Address {
    /// From `host:port`, `http://host:port/` or the full address of the images.
    pub(super) fn parse(text: &str) -> Result<Self, LoadError> {
        let wrong = |problem: &str| LoadError::Settings(format!("the address {text:?} {problem}"));
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("is not one of http://; behind TLS, measure the server itself"));
        }
        if uri.query().is_some() {
            return Err(wrong("has a query; --class, --alpha, --n, --format and --seed make it"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| wrong("names no host"))?;
        let path = if matches!(uri.path(), "" | "/") { "/generate" } else { uri.path() };
        Ok(Self { origin: format!("http://{authority}"), path: path.to_owned() })
    }

    /// Where images are made, without a query.
    pub(super) fn images(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// Where the server tells about its model.
    pub(super) fn info(&self) -> String {
        format!("{}/info", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_what_was_asked_for() {
        let question = Question {
            classes: vec!["T-shirt & top".to_owned()],
            alpha: Some(1.5),
            images: 4,
            format: Some("json".to_owned()),
            seed: 7,
        };
        let query = question.query(0);
        assert!(query.starts_with("class=T-shirt+%26+top&alpha=1.5&n=4&format=json&seed="), "{query}");
        let plain = Question::default().query(0);
        assert!(plain.starts_with("class=0&n=1&seed=") && !plain.contains("alpha"), "{plain}");
    }

    #[test]
    fn requests_differ_and_come_again_with_the_seed() {
        let classes = vec!["3".to_owned(), "Bag".to_owned()];
        let question = Question { classes, ..Question::default() };
        let queries: Vec<String> = (0..50).map(|index| question.query(index)).collect();
        assert_eq!(queries, (0..50).map(|index| question.query(index)).collect::<Vec<_>>());
        assert!(["class=3&", "class=Bag&"].iter().all(|class| queries.iter().any(|query| query.starts_with(class))));
        let seeds: std::collections::BTreeSet<&str> =
            queries.iter().filter_map(|query| query.split("seed=").nth(1)).collect();
        assert_eq!(seeds.len(), 50);
        assert_ne!(Question { seed: 1, ..question.clone() }.query(0), queries[0]);
    }

    #[test]
    fn addresses_are_read_as_people_type_them() {
        let images = |text: &str| Address::parse(text).map(|address| address.images());
        for text in ["localhost:8000", "http://localhost:8000", "http://localhost:8000/"] {
            assert_eq!(images(text).unwrap(), "http://localhost:8000/generate");
        }
        assert_eq!(images("http://[::1]:80/models/a/generate").unwrap(), "http://[::1]:80/models/a/generate");
        assert_eq!(Address::parse("http://h/models/a/generate").unwrap().info(), "http://h/info");
        let refused = |text: &str| images(text).unwrap_err().to_string();
        assert!(refused("https://localhost").contains("TLS"));
        assert!(refused("http://localhost/generate?class=3").contains("--class"));
        assert!(refused("local host").contains("cannot be read") && refused("").contains("\"\""));
    }
}
